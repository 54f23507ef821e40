from __future__ import annotations

import torch
from torch import nn

from commonspace.models.towers.fingerprint import weights_fingerprint


def test_equal_weights_have_equal_names_and_others_do_not():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    name = weights_fingerprint(module)
    assert len(name) == 32 and int(name, 16)
    other = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    other.load_state_dict(module.state_dict())
    assert weights_fingerprint(other) == name
    assert weights_fingerprint(other, "stage 2") != name
    assert weights_fingerprint(other.double()) != name
    other.float()[1].num_batches_tracked += 1  # integers and scalars count too
    assert weights_fingerprint(other) != name
