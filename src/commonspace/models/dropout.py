"""Dropout with one random byte a number: on a CPU the mask of `nn.Dropout` takes some eight times as long."""

from __future__ import annotations

import torch
from torch import nn


def dropout(inputs: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Inputs of any shape; while training a share p of them, to the nearest 1/256, is zero and the rest scaled up."""
    dropped = round(256 * p)
    if not training or not dropped:
        return inputs
    words = torch.empty(-(-inputs.numel() // 8), dtype=torch.int64, device=inputs.device).random_(-(2**63), None)
    kept = words.view(torch.uint8)[: inputs.numel()].view(inputs.shape) >= dropped
    return inputs * kept.to(inputs.dtype).mul_(256 / (256 - dropped))


class Dropout(nn.Module):
    """`dropout` as a module; `p` may be set at any time."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """As `dropout`."""
        return dropout(inputs, self.p, self.training)
