"""The loss a stage trains with, put together from the objective's options, per task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import torch

from commonspace.errors import ConfigError
from commonspace.objectives.distill import in_batch_score_match
from commonspace.objectives.matryoshka import matryoshka
from commonspace.objectives.nce import bidirectional_nce, nce_loss
from commonspace.objectives.nce_options import NCEOptions

Loss = Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]


class Objective:
    """Equation 2 with its options, summed over Matryoshka sizes, both ways for tasks that name a reverse.

    sizes      prefixes of the embedding the loss is summed over; None for the full size alone
    reversed_  names of the tasks that are also taken target to query
    options    departures from the paper, see `NCEOptions`

    `distil` is `in_batch_score_match` over the same sizes: a teacher's scores in place of labels.
    """

    def __init__(self, sizes: Sequence[int] | None, reversed_: Collection[str], options: NCEOptions) -> None:
        if options.classification and reversed_:
            raise ConfigError(f"objective.classification has no reverse, but {', '.join(sorted(reversed_))} name one")
        self.sizes, self.reversed = tuple(sizes or ()), frozenset(reversed_)
        wrap = (lambda loss: matryoshka(loss, tuple(sizes))) if sizes else (lambda loss: loss)
        self._one_way, self._both_ways = wrap(nce_loss), wrap(bidirectional_nce)
        self.distil = wrap(in_batch_score_match)
        self._options = options

    def __call__(self, task: str, *vectors: torch.Tensor | None, **arguments) -> tuple[torch.Tensor, dict]:
        """(loss, report) of one batch of `task`; arguments as `nce_loss`."""
        loss = self._both_ways if task in self.reversed else self._one_way
        return loss(*vectors, options=self._options, **arguments)
