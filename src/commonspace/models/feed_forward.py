"""A feed-forward layer between pooling and the linear head, for what is text."""

from __future__ import annotations

import torch
from torch import nn

from commonspace.models.dropout import Dropout


class FeedForward(nn.Module):
    """x + W2 gelu(W1 x): a transformer's own feed-forward sublayer, on the pooled state of texts.

    [N, P] -> [N, P]. W2 starts at zero, so an untrained layer changes nothing. `dropout.p` is 0 unless a stage sets it.
    A departure from the paper, whose head is linear alone; docs/log.md has what it gains, and what it costs where media
    pass it too.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.dropout = Dropout(0.0)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        nn.init.zeros_(self.contract.weight)
        nn.init.zeros_(self.contract.bias)

    def forward(self, pooled_NP: torch.Tensor) -> torch.Tensor:
        """The states with what the layer adds to them."""
        hidden_NH = nn.functional.gelu(self.expand(self.dropout(pooled_NP)))
        return pooled_NP + self.contract(self.dropout(hidden_NH))
