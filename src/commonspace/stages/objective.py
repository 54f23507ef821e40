"""The loss a stage trains with, put together from the objective's options, per task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from commonspace.errors import ConfigError
from commonspace.objectives.distill import in_batch_score_match
from commonspace.objectives.matryoshka import matryoshka
from commonspace.objectives.named import Options, options_of
from commonspace.objectives.nce import bidirectional_nce, nce_loss
from commonspace.objectives.sigmoid import PairBias, sigmoid_loss
from commonspace.objectives.sigmoid_options import SigmoidOptions
from commonspace.objectives.spread import with_spread

Loss = Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]


class Objective(nn.Module):
    """Equation 2 with its options, or the sigmoid loss, summed over Matryoshka sizes.

    sizes      prefixes of the embedding the loss is summed over; None for the full size alone
    reversed_  names of the tasks that are also taken target to query; the sigmoid loss is symmetric and takes none
    options    departures from the paper, see `NCEOptions`, or `SigmoidOptions`, whose class chooses the loss
    weights    of the sizes; None: all 1
    spread     weight of `spread_loss` beside the loss, at every size; 0: none

    `distil` takes a teacher's scores in place of labels, over the same sizes and with the same spread. The only
    parameter is the sigmoid loss's learned bias.
    """

    def __init__(
        self,
        sizes: Sequence[int] | None,
        reversed_: Collection[str],
        options: Options,
        *,
        weights: Sequence[float] | None = None,
        spread: float = 0.0,
    ) -> None:
        super().__init__()
        sigmoid = isinstance(options, SigmoidOptions)
        if reversed_ and (sigmoid or options.classification):
            kind = "sigmoid" if sigmoid else "classification"
            raise ConfigError(f"objective.{kind} has no reverse, but {', '.join(sorted(reversed_))} name one")
        if weights is not None and not sizes:
            raise ConfigError("objective.matryoshka_weights has no effect on the full size alone")
        self.sizes, self.reversed, self.options = tuple(sizes or ()), frozenset(reversed_), options
        self._weights, self._spread = weights, spread
        self.bias = PairBias(options.bias) if sigmoid and options.learn_bias else None

    @classmethod
    def of(cls, group: Mapping[str, Any], sizes: Sequence[int], reversed_: Collection[str]) -> Objective:
        """The objective of a composed `objective` group; `sizes` and `reversed_` count only where it asks for them."""
        return cls(
            sizes if group["matryoshka"] else None,
            reversed_ if group.get("reverse") else (),
            options_of(group),
            weights=group["matryoshka_weights"],
            spread=group["spread"],
        )

    def forward(self, task: str, *vectors: torch.Tensor | None, **arguments) -> tuple[torch.Tensor, dict]:
        """(loss, report) of one batch of `task`; arguments as `nce_loss`."""
        if isinstance(self.options, SigmoidOptions):
            return self._wrapped(self._sigmoid)(*vectors, **arguments)
        loss = self._wrapped(bidirectional_nce if task in self.reversed else nce_loss)
        return loss(*vectors, options=self.options, **arguments)

    def distil(self, *vectors: torch.Tensor, **arguments) -> tuple[torch.Tensor, dict]:
        """(loss, report) of one batch by a teacher's scores; arguments as `in_batch_score_match`."""
        return self._wrapped(in_batch_score_match)(*vectors, **arguments)

    def _sigmoid(self, *vectors: torch.Tensor | None, **arguments) -> tuple[torch.Tensor, dict]:
        bias = self.options.bias if self.bias is None else self.bias()
        return sigmoid_loss(*vectors, bias=bias, chunk_rows=self.options.chunk_rows, **arguments)

    def _wrapped(self, loss: Loss) -> Loss:
        loss = with_spread(loss, self._spread) if self._spread else loss
        return matryoshka(loss, self.sizes, self._weights) if self.sizes else loss
