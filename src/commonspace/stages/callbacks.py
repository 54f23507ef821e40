"""What happens beside the steps of a stage: dev retrieval, averaging within the run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from itertools import compress
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from commonspace.errors import ConfigError
from commonspace.models.averaging import RunningAverage
from commonspace.objectives.gather import Group, gather_rows
from commonspace.stages.contrastive import ContrastiveStage
from commonspace.stages.dev import DevRetrieval
from commonspace.stages.settings import StageSettings
from commonspace.stages.sharding import as_shares, like, own_share, reshard

SNAPSHOTS = 8  # of the tail that are averaged, at most


class DevScores(Callback):
    """Dev retrieval every `every` steps, logged as dev/<task> and dev/mean, and the space as geometry/<measure>;
    what is saved is scored at the end.

    every  0: at no step; `first` scores the model as it came, before the first step
    `stage.dev_scored` tells checkpoints after which step the mean was taken.
    """

    def __init__(self, dev: DevRetrieval, every: int, first: bool = False) -> None:
        self.dev, self.every, self.first = dev, every, first

    def on_train_start(self, trainer: pl.Trainer, stage: ContrastiveStage) -> None:
        """Score what the stage starts from, unless the run goes on from a checkpoint."""
        if self.first and trainer.global_step == 0:
            self._score(trainer, stage)

    def on_train_batch_end(self, trainer: pl.Trainer, stage: ContrastiveStage, *_: Any) -> None:
        """Score when a whole number of intervals is over, but for the last step."""
        step = trainer.global_step
        if self.every and not stage.pending and step % self.every == 0 and step != stage.steps:
            self._score(trainer, stage)

    def _score(self, trainer: pl.Trainer, stage: ContrastiveStage) -> None:
        scores = self.dev.scores(stage.embedder, bf16=stage.bf16, group=stage.group)
        stage.dev_scored = (trainer.global_step, scores["mean"])
        stage.log_now(self.dev.logged(scores))
        if trainer.global_step:  # Lightning takes no values before the first step
            stage.log("dev", scores["mean"], prog_bar=True, logger=False, batch_size=1)


class WeightAverage(Callback):
    """Average of the trained weights within the run (`stage.average`): the soup's first source.

    The training weights themselves stay untouched; `apply` puts the average into the stage, once, at the end. Of a
    sharded stage each process averages its own shares, so no step waits for another process.
    """

    def __init__(self, settings: StageSettings, steps: int) -> None:
        self.tail = settings.average == "tail"
        self.average = RunningAverage(None if self.tail else settings.average_decay)
        self.start = steps - math.ceil(settings.average_share * steps) if self.tail else 0
        self.every = max(1, math.ceil((steps - self.start) / SNAPSHOTS)) if self.tail else 1
        self.steps = steps
        self._stage: ContrastiveStage | None = None

    def setup(self, trainer: pl.Trainer, pl_module: ContrastiveStage, stage: str) -> None:
        """Keep the stage that a checkpoint's average belongs to."""
        self._stage = pl_module

    def on_train_batch_end(self, trainer: pl.Trainer, stage: ContrastiveStage, *_: Any) -> None:
        """Take a snapshot when one is due; counted back from the end, so the last weights are always in."""
        step = trainer.global_step
        if not stage.pending and step > self.start and (self.steps - step) % self.every == 0:
            self.average.update({name: own_share(tensor) for name, tensor in trained_tensors(stage).items()})

    @torch.no_grad()
    def apply(self, stage: ContrastiveStage) -> None:
        """Replace the trained weights of `stage` by their average."""
        values = self.average.value()
        for name, tensor in trained_tensors(stage).items():
            own_share(tensor).copy_(values[name])

    def state_dict(self) -> dict[str, Any]:
        """Tensors of a sharded stage are shares, which its strategy writes as it writes the weights."""
        return self._mapped(self.average.state_dict(), as_shares)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take in whole tensors, of which each process keeps its shares."""
        self.average.load_state_dict(self._mapped(state, lambda tensor, own: own_share(like(tensor, own)).cpu()))

    def _mapped(self, state: dict[str, Any], function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> dict:
        """`state` with each tensor that is held changed by function(tensor, the stage's own of that name)."""
        own = trained_tensors(self._stage) if self._stage else {}
        held = state.get("average") or {}
        average = {name: function(tensor, own.get(name, tensor)) for name, tensor in held.items()}
        return state | ({"average": average} if held else {})


class SameSteps(Callback):
    """Holds that all processes are about to take the same steps; who would stop early leaves the others waiting.

    The number of steps and the batches' tasks come from the mixture alone, which is the same everywhere by construction
    unless the processes see other data or other code. ConfigError, on every process alike, names what differs.
    """

    def on_train_start(self, trainer: pl.Trainer, stage: ContrastiveStage) -> None:
        """Compare over processes once the loader is made and stands where it goes on."""
        datamodule = getattr(trainer, "datamodule", None)
        state = datamodule.state_dict() if datamodule else {}
        plan = {"steps": stage.steps, "bf16": stage.bf16, "done": state.get("step", 0), **state.get("mixture", {})}
        require_same(plan, stage.group, stage.device)


def require_same(values: Mapping[str, Any], group: Group | None, device: torch.device | None = None) -> None:
    """Raise ConfigError, on every process alike, unless all hold equal values under the same names."""
    texts = [f"{name}: {value}" for name, value in sorted(values.items())]
    for parts in ([", ".join(sorted(values))], texts):  # names first: then all have equally many values
        own_N = torch.tensor([_digest(part) for part in parts], dtype=torch.int64, device=device)
        rows_WN = gather_rows(own_N, group).view(-1, len(parts))
        if (rows_WN == rows_WN[0]).all():
            continue
        others = [rank for rank, row in enumerate(rows_WN) if not torch.equal(row, rows_WN[0])]
        differ = (rows_WN != rows_WN[0]).any(dim=0).tolist()
        raise ConfigError(
            f"processes {others} would not train as process 0 does, and all would wait for ever; differing, as it is "
            f"here: {', '.join(compress(parts, differ))}; give all the same shards, options and code"
        )


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def trained_tensors(stage: ContrastiveStage) -> dict[str, torch.Tensor]:
    """The embedder's parameters that train, by name; shares where it is sharded."""
    if stage.sharded:
        reshard(stage.embedder)
    return {name: p for name, p in stage.embedder.named_parameters() if p.requires_grad}
