"""Seconds to save and to load a checkpoint and a model folder, and from a start to the first batch, anew and resumed.

    python benchmarks/checkpoints.py [--weights FOLDER] [--data FOLDER] [--json FILE] [--quick]

The compact model on the mini tier's paragraph pairs, under Lightning's trainer as `commonspace train` has it. `start`
is from the call of `fit` to the moment the first batch is there, one loading process, anew and from a checkpoint;
`position` is the loader alone, sent to a step of a run of 10,000: resuming does not read what was read before. A cell
is the median of five rounds in turns, in brackets the lowest and highest.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.measure import QUICK_ROUNDS, ROUNDS, Spread, Table, interleaved, machine, run, seconds
from benchmarks.subject import bare_trainer, compact_model, plain_stage, quiet
from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.models.embedder import Embedder

TASK, BATCH, QUICK_BATCH = "crosslingual", 16, 4
LONG = 10_000  # steps
COLUMNS = {"what": ("", ""), "seconds": ("seconds", ".2f"), "mb": ("MB on disk", ".1f")}


class Bench:
    """One stage with its trainer, two steps old, and what it left on disk."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.batch = options, QUICK_BATCH if options.quick else BATCH
        self.embedder = compact_model(options.weights, ())
        self.checkpoint, self.again, self.model = folder / "last.ckpt", folder / "again.ckpt", folder / "model"
        self.trainer = self.fit(steps=2, leave=self.checkpoint)[0]

    def module(self, steps: int) -> CommonspaceDataModule:
        """Batches in one process beside training."""
        tasks = {TASK: {"batch_size": self.batch, "rate": 1.0, "reverse": True}}
        return CommonspaceDataModule(
            self.options.data, tasks, self.embedder.processor, seed=1, steps=steps, workers=1, bucket=1
        )

    def fit(self, steps: int, resume: Path | None = None, leave: Path | None = None) -> tuple[pl.Trainer, float]:
        """Train up to a step and leave a checkpoint; the trainer, and the seconds until the first batch was there."""
        arrival = Arrival(leave)
        trainer = bare_trainer(steps, arrival)
        self.embedder.train()
        stage = plain_stage(self.embedder, TASK, steps=steps, bf16=False)
        arrival.started = time.perf_counter()
        trainer.fit(
            stage, datamodule=self.module(steps), ckpt_path=str(resume) if resume else None, weights_only=bool(resume)
        )
        return trainer, arrival.seconds

    def save(self) -> None:
        """The trainer's checkpoint: trained weights, optimiser, place in the data."""
        self.trainer.save_checkpoint(self.again)

    def read(self) -> None:
        """The same back into the stage."""
        state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        self.trainer.lightning_module.load_state_dict(state["state_dict"])

    def first_batch(self, step: int) -> None:
        """The batch of a step from a loader that was just sent there."""
        loader = self.module(LONG).loader()
        loader.load_state_dict({**loader.state_dict(), "step": step})
        next(iter(loader))


class Arrival(pl.Callback):
    """Seconds from `started` to the first batch; a checkpoint after each step where one is asked for."""

    started = 0.0
    seconds = 0.0

    def __init__(self, leave: Path | None) -> None:
        self.leave = leave

    def on_train_batch_start(self, *_: Any) -> None:
        """Note the first."""
        self.seconds = self.seconds or time.perf_counter() - self.started

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Save."""
        if self.leave is not None:
            trainer.save_checkpoint(self.leave)


def sides(bench: Bench) -> dict[str, Callable[[], float]]:
    """What is timed, by the name of its row."""
    bench.embedder.eval()
    bench.embedder.save(bench.model)
    return {
        "save a checkpoint": lambda: seconds(bench.save),
        "load a checkpoint": lambda: seconds(bench.read),
        "start anew": lambda: bench.fit(steps=1)[1],
        "start from a checkpoint": lambda: bench.fit(steps=3, resume=bench.checkpoint)[1],
        **{f"position {step}": partial(seconds, partial(bench.first_batch, step)) for step in (0, LONG // 2, LONG - 1)},
        "save a model folder": lambda: seconds(lambda: bench.embedder.save(bench.model)),
        "load a model folder": lambda: seconds(lambda: Embedder.load(bench.model)),
    }


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    quiet()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, Path(scratch))
        timed = sides(bench)
        sizes = {
            "save a checkpoint": bench.checkpoint.stat().st_size,
            "save a model folder": sum(file.stat().st_size for file in bench.model.iterdir()),
        }
        table = Table(COLUMNS, machine(options.quick), options.json, f"float32, medians of {rounds} rounds")
        spent = interleaved(timed, rounds, warm_up=not options.quick)
        for name in timed:
            table.add(what=name, seconds=Spread.of(spent[name]), mb=sizes[name] / 1e6 if name in sizes else None)


if __name__ == "__main__":
    run(__doc__, main, weights="cache/weights", data="data/mini")
