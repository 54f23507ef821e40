"""What happens beside the steps of a stage: dev retrieval, averaging within the run, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import Logger, WandbLogger

from commonspace.models.averaging import RunningAverage
from commonspace.stages.contrastive import ContrastiveStage
from commonspace.stages.dev import DevRetrieval
from commonspace.stages.settings import StageSettings

SNAPSHOTS = 8  # of the tail that are averaged


class DevScores(Callback):
    """Dev retrieval every `every` steps, logged as dev/<task> and dev/mean; what is saved is scored at the end."""

    def __init__(self, dev: DevRetrieval, every: int) -> None:
        self.dev, self.every = dev, every

    def on_train_batch_end(self, trainer: pl.Trainer, stage: ContrastiveStage, *_: Any) -> None:
        """Score when a whole number of intervals is over, but for the last step."""
        step = trainer.global_step
        if step % self.every or step == stage.steps:
            return
        scores = self.dev.scores(stage.embedder, bf16=stage.bf16)
        stage.log_now({f"dev/{name}": value for name, value in scores.items()})
        stage.log("dev", scores["mean"], prog_bar=True, logger=False, batch_size=1)


class WeightAverage(Callback):
    """Average of the trained weights within the run (`stage.average`): the soup's first source.

    The training weights themselves stay untouched; `apply` puts the average into the embedder, once, at the end.
    """

    def __init__(self, settings: StageSettings, steps: int) -> None:
        self.tail = settings.average == "tail"
        self.average = RunningAverage(last=SNAPSHOTS) if self.tail else RunningAverage(decay=settings.average_decay)
        self.start = steps - math.ceil(settings.average_share * steps) if self.tail else 0
        self.every = max(1, (steps - self.start) // SNAPSHOTS) if self.tail else 1
        self.steps = steps

    def on_train_batch_end(self, trainer: pl.Trainer, stage: ContrastiveStage, *_: Any) -> None:
        """Take a snapshot when one is due; counted back from the end, so the last weights are always in."""
        step = trainer.global_step
        if step > self.start and (self.steps - step) % self.every == 0:
            self.average.update(trained_tensors(stage))

    def apply(self, stage: ContrastiveStage) -> None:
        """Replace the trained weights of `stage` by their average."""
        values = self.average.value()
        with torch.no_grad():
            for name, tensor in trained_tensors(stage).items():
                tensor.copy_(values[name])

    def state_dict(self) -> dict[str, Any]:
        return self.average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average.load_state_dict(state)


def trained_tensors(stage: ContrastiveStage) -> dict[str, torch.Tensor]:
    """The embedder's parameters that train, by name."""
    return {name: p for name, p in stage.embedder.named_parameters() if p.requires_grad}


def checkpoints(folder: Path, every: int, keep: int) -> ModelCheckpoint:
    """`last.ckpt` every so many steps (Lightning writes beside and renames), and the `keep` latest by step."""
    return ModelCheckpoint(
        dirpath=folder,
        filename="{step}",
        every_n_train_steps=every,
        save_top_k=keep,
        monitor="step",
        mode="max",
        save_last=True,
        enable_version_counter=False,
        auto_insert_metric_name=True,
    )


def close(loggers: Iterable[Logger]) -> None:
    """End the logs. W&B's run must end with the stage: a sweep's next job, in the same process, would log into it."""
    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def progress_bar() -> RichProgressBar:
    """Rich, refreshed once a second: a training step is slower than that on a CPU."""
    return RichProgressBar(refresh_rate=1, leave=True)
