from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from commonspace.errors import ConfigError
from commonspace.objectives.cosent import cosent_loss


def test_equals_the_double_loop():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    scores = [3, 1, 2, 2, 5, 1]
    cosines = F.cosine_similarity(first, second).tolist()
    pairs = [(i, j) for i in range(6) for j in range(6) if scores[i] < scores[j]]
    expected = math.log1p(sum(math.exp((cosines[i] - cosines[j]) / 0.1) for i, j in pairs))
    loss, report = cosent_loss(first, second, scores=torch.tensor(scores), temperature=0.1)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert report["ordered"].item() == pytest.approx(sum(cosines[i] < cosines[j] for i, j in pairs) / len(pairs))


def test_only_the_order_of_scores_matters_and_equal_scores_cost_nothing():
    first, second = torch.randn(2, 4, 5)
    by_rank, _ = cosent_loss(first, second, scores=torch.tensor([0, 1, 2, 3]))
    by_value, _ = cosent_loss(first, second, scores=torch.tensor([-5.0, 0.1, 0.2, 100.0]))
    assert by_rank == by_value
    first.requires_grad_()
    loss, report = cosent_loss(first, second, scores=torch.ones(4))
    loss.backward()
    assert loss == 0 and report["ordered"] == 1 and (first.grad == 0).all()


def test_wrong_shapes_are_refused():
    with pytest.raises(ConfigError, match=r"\[B, E\], \[B, E\] and \[B\]"):
        cosent_loss(torch.ones(3, 4), torch.ones(3, 4), scores=torch.ones(4))
