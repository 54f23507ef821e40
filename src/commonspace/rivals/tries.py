"""A few learning rates, each from the same start, judged on dev as late fusion's settings are; the best one stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from commonspace.data.shards import ShardReader
from commonspace.evaluation.baselines import dev_score
from commonspace.evaluation.engine import evaluate
from commonspace.evaluation.results import Scored
from commonspace.evaluation.rivals import Rival, answerable
from commonspace.evaluation.suite import Suite
from commonspace.models.weights import resolve_weights

console = Console()


@dataclass(frozen=True)
class Given:
    """What every peer is given: a tier's shards, pretrained weights by name, a seed.

    `limit` is of a task's training records, `dev_limit` of its dev records; None: all.
    """

    data: Path
    cache: Path
    weights: str
    seed: int
    limit: int | None = None
    dev_limit: int | None = None

    def pretrained(self, name: str) -> Path:
        """The folder of pretrained weights."""
        return resolve_weights(name, self.weights, self.cache)

    def rows(self, reader: ShardReader) -> int:
        """How many records of a task train."""
        return min(self.limit or len(reader), len(reader))


@dataclass(frozen=True)
class Try:
    """One training of a part of the model at one learning rate (None: not trained further), and its score on dev."""

    part: str
    learning_rate: float | None
    dev: float


def dev_score_of(suite: Suite) -> Callable[[Rival], float]:
    """Mean MRR@10 of a rival over the tasks of dev that it reads, one query a concept, as `dev_score` takes it."""
    suite = replace(suite, tasks=tuple(task for task in suite.tasks if not task.name.endswith("_languages")))

    def score(rival: Rival) -> float:
        scored = Scored("try", "rival", prefix_policy="task" if rival.prompted else "none")
        return dev_score(evaluate(rival, answerable(suite, rival)[0], scored, draws=1))

    return score


def best_of(
    model: nn.Module,
    rates: Sequence[float],
    fit: Callable[[float], None],
    score: Callable[[], float],
    part: str,
    seed: int,
    start: Try | None = None,
) -> list[Try]:
    """Train from the model's weights at each rate; the model is left with the best. Tries, best first.

    `start` is the try that the weights come from: it stays where no rate is better than it.
    """
    before = _weights(model)
    tried = [replace(start, part=part, learning_rate=None)] if start else []
    kept = before
    for rate in rates:
        model.load_state_dict(before)
        torch.manual_seed(seed)
        fit(rate)
        model.eval()
        tried.append(Try(part, rate, score()))
        console.print(f"{part}, learning rate {rate:g}: {tried[-1].dev:.4f} on dev")
        if tried[-1].dev >= max(one.dev for one in tried):
            kept = _weights(model)
    model.load_state_dict(kept)
    return sorted(tried, key=lambda one: -one.dev)


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
