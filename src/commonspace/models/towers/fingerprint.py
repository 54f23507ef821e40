"""One short name for a module's exact weights: what the feature cache keys on."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_fingerprint(module: nn.Module, settings: str = "") -> str:
    """32 hex digits over every tensor's name, type, shape and bytes, and over `settings` that change the output."""
    state = hashlib.blake2b(settings.encode(), digest_size=16)
    for name, tensor in module.state_dict().items():
        values = tensor.detach().cpu().contiguous()
        state.update(f"{name}:{values.dtype}:{tuple(values.shape)}:".encode())
        state.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()
