"""Samples the loader makes a second, and the share of a training step that is spent waiting, by modality and workers.

    python benchmarks/loader.py [--weights FOLDER] [--data FOLDER] [--cache FOLDER] [--json FILE] [--quick]

Tasks of the mini tier: texts, images, speech, clips with sound, pages. `decoded` reads, decodes and scales each medium;
`kept` takes the frozen towers' outputs from the cache, as the recipes do, where there are any. Both are the loader
alone, batch after batch with nothing else to do: a cell is the median of five stretches, in brackets the slowest and
fastest, after the batches that were prepared ahead. `waiting` is the share of a training run's time in which the step
stood waiting for its batch, its first two batches left out; towers' outputs are kept there too. The model is the
compact one with the loss at one size, a shorter step than the recipes': their share is smaller. The last row is the
mixture of the mini recipe's fine-tuning, its hard negatives left out, at its own batch sizes and its one worker.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from benchmarks.measure import QUICK_ROUNDS, ROUNDS, Spread, Table, machine, run, seconds
from benchmarks.subject import bare_trainer, compact_model, has_features, plain_stage, quiet
from commonspace.configuration import compose
from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.data.features import attach_features
from commonspace.models.embedder import Embedder
from commonspace.models.precision import resolve_precision

TASKS = {"text": "crosslingual", "image": "image_caption", "audio": "speech", "video": "video", "document": "document"}
WORKERS, QUICK_WORKERS = (0, 1, 2), (0, 1)
BATCH, QUICK_BATCH = 32, 4
STRETCH = 3  # batches
STEPS, QUICK_STEPS = 10, 3
MIXTURE_STEPS = 24
COLUMNS = {
    "modality": ("modality", ""),
    "task": ("task", ""),
    "workers": ("workers", ""),
    "decoded": ("decoded, samples a second", ".1f"),
    "kept": ("kept, samples a second", ".1f"),
    "step_seconds": ("seconds a step", ".2f"),
    "waiting": ("waiting", ".1%"),
}
Tasks = Mapping[str, Mapping[str, Any]]


class Samples:
    """Loaders of one tier for one model, with and without its towers' kept outputs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.decoding, self.training = compact_model(options.weights), compact_model(options.weights)
        attach_features(self.training, options.cache)

    def module(self, embedder: Embedder, tasks: Tasks, workers: int, steps: int) -> CommonspaceDataModule:
        """Batches for a model."""
        return CommonspaceDataModule(
            self.options.data, tasks, embedder.processor, seed=1, steps=steps, workers=workers, bucket=1, canonical=0.9
        )

    def keeps(self, tasks: Tasks) -> bool:
        """Whether the cache has what the towers give for these tasks."""
        return has_features(next(iter(self.module(self.training, tasks, 0, steps=1).loader())))

    def rate(self, embedder: Embedder, tasks: Tasks, workers: int, rounds: int) -> Spread:
        """Samples a second of the loader alone."""
        module = self.module(embedder, tasks, workers, steps=10_000)
        batches = iter(module.loader())
        size = len(next(batches))
        list(islice(batches, 2 * workers))  # prepared ahead while workers started
        spent = [seconds(lambda: list(islice(batches, STRETCH))) for _ in range(rounds)]
        return Spread.of(STRETCH * size / value for value in spent)

    def waiting(self, tasks: Tasks, workers: int, steps: int) -> dict[str, float]:
        """Mean seconds of a step, its wait included, and the share that is the wait."""
        embedder, clock = self.training, Waits()
        precision = "32-true" if self.options.quick else resolve_precision("auto")
        stage = plain_stage(embedder, next(iter(tasks)), steps=steps, bf16=precision == "bf16-mixed", cache_tokens=8192)
        trainer = bare_trainer(steps, clock)
        embedder.train()
        trainer.fit(stage, datamodule=self.module(embedder, tasks, workers, steps))
        return clock.found()


class Waits(pl.Callback):
    """When each step was over, and how long it had waited."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.waits: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, stage: pl.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Note both."""
        self.moments.append(time.perf_counter())
        self.waits.append(batch.waited)

    def found(self) -> dict[str, float]:
        """Over all but the first two steps, whose batches were waited for while workers started."""
        first = min(2, len(self.moments) - 1)
        whole = self.moments[-1] - self.moments[first - 1]
        return {"step_seconds": whole / (len(self.moments) - first), "waiting": sum(self.waits[first:]) / whole}


def mixture(data: Path) -> dict[str, dict[str, Any]]:
    """Tasks of the mini recipe's fine-tuning that the tier has."""
    tasks = compose("train", ["experiment=mini/finetune_base"]).data.tasks
    return {
        name: {"batch_size": task.batch_size, "rate": task.rate, "reverse": task.reverse}
        for name, task in tasks.items()
        if task.rate > 0 and (data / name / "train.json").is_file()
    }


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    quiet()
    quick, samples = options.quick, Samples(options)
    rounds, batch, steps = (QUICK_ROUNDS, QUICK_BATCH, QUICK_STEPS) if quick else (ROUNDS, BATCH, STEPS)
    about = f"batches of {batch}, medians of {rounds} stretches of {STRETCH} batches, runs of {steps} steps"
    table = Table(COLUMNS, machine(quick), options.json, about)
    for modality, name in TASKS.items():
        if not (options.data / name / "train.json").is_file():
            continue
        task = {name: {"batch_size": batch, "rate": 1.0, "reverse": True}}
        kept = samples.keeps(task)
        for workers in QUICK_WORKERS if quick else WORKERS:
            table.add(
                modality=modality,
                task=name,
                workers=workers,
                decoded=samples.rate(samples.decoding, task, workers, rounds),
                kept=samples.rate(samples.training, task, workers, rounds) if kept else None,
                **samples.waiting(task, workers, steps),
            )
    if not quick:
        found = samples.waiting(mixture(options.data), 1, MIXTURE_STEPS)
        table.add(modality="all", task="mini/finetune_base", workers=1, **found)


if __name__ == "__main__":
    run(__doc__, main, weights="cache/weights", data="data/mini", cache="cache")
