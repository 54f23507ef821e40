"""Checkpoints of a run: by steps, by time, by dev score and when a signal asks, each whole or not there at all.

`step=N.ckpt` are the states; `last.ckpt` and `best.ckpt` point to two of them. A state is written under another name
beside its place and renamed, and a pointer is replaced by renaming too: whenever a run is killed, `last.ckpt` is one
that can be gone on from. (Lightning writes to the system's temporary folder and moves: a copy, if that is another
disk, and a copy can be cut short.)
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from commonspace.errors import DataError
from commonspace.stages.interruption import Interruption

LAST, BEST = "last.ckpt", "best.ckpt"


class Checkpoints(Checkpoint):
    """Saves `every` so many steps and after the last one, and further where these are given:

    minutes       also when so much time has passed since the last save
    keep          how many of the latest states stay, beside those that the pointers name, while the run lasts
    best          also when dev was scored and the mean is above all before; `best.ckpt` points there
    interruption  also when the run is asked to end, which it then does
    Relations: what is saved is the state between two steps; resuming from it equals never having stopped.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        *,
        minutes: float | None = None,
        keep: int = 1,
        best: bool = False,
        interruption: Interruption | None = None,
    ) -> None:
        self.folder, self.every, self.minutes, self.keep = folder, every, minutes, keep
        self.by_score, self.interruption = best, interruption
        self.best_step, self.best_score = 0, float("-inf")
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best_step": self.best_step, "best_score": self.best_score}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_step, self.best_score = state["best_step"], state["best_score"]

    def on_train_start(self, trainer: pl.Trainer, stage: pl.LightningModule) -> None:
        """Time counts from here."""
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, stage: Any, *_: Any) -> None:
        """Save where a step calls for it; Lightning calls this after all other callbacks."""
        if getattr(stage, "pending", 0):  # gradients of a step that takes more batches are in no state
            return
        step = trainer.global_step
        better = self.by_score and self._is_better(stage, step)
        leaving = self.interruption is not None and self.interruption.asked
        late = trainer.is_global_zero and self._is_late()
        together = trainer.strategy.reduce_boolean_decision  # clocks and signals differ between processes
        asked = None
        if together(late or leaving or better, all=False):
            asked = self.interruption.agreed(trainer) if self.interruption else None
        elif step % self.every and step != trainer.max_steps:
            return
        self.save(trainer)
        if asked is not None:
            self.interruption.leave(trainer, asked)

    def save(self, trainer: pl.Trainer) -> None:
        """Write the state after this step, point to it, and remove what is no longer kept. Called by every process."""
        step = trainer.global_step
        state, partial = self.folder / f"step={step}.ckpt", self.folder / f".step={step}.ckpt.partial"
        try:
            trainer.save_checkpoint(partial, weights_only=False)
        except OSError as error:
            if partial.exists():  # a folder, where processes write shares
                _remove(partial)
            raise DataError(
                f"{state}: cannot be written ({error}); free space and run the same command again, which goes on from "
                "the last that was written"
            ) from error
        if trainer.is_global_zero:
            _flush(partial)
            if state.is_dir():  # of an earlier attempt at this step; a file is replaced as it stands
                _remove(state)
            os.replace(partial, state)
            _point(self.folder / LAST, state)
            if self.best_step == step:
                _point(self.folder / BEST, state)
            self._prune()
        self._saved_at = time.monotonic()
        trainer.strategy.barrier("checkpoint")

    def _is_better(self, stage: Any, step: int) -> bool:
        """Whether dev was scored after this very step, and never better before."""
        scored, score = stage.dev_scored
        if scored != step or not score > self.best_score:
            return False
        self.best_step, self.best_score = step, score
        return True

    def _is_late(self) -> bool:
        return self.minutes is not None and time.monotonic() - self._saved_at >= 60 * self.minutes

    def _prune(self) -> None:
        named = {(self.folder / name).resolve() for name in (LAST, BEST)}
        states = sorted(self.folder.glob("step=*.ckpt"), key=_step_of)
        for path in (*states[: max(0, len(states) - self.keep)], *self.folder.glob(".*.partial")):
            if path.resolve() not in named:
                _remove(path)


def pointed(folder: Path, name: str = LAST) -> Path | None:
    """The state that a pointer names; None where nothing was saved. DataError where the state itself is gone."""
    pointer = folder / name
    if pointer.exists():
        return pointer.resolve()
    if pointer.is_symlink():
        raise DataError(
            f"{pointer}: points to {os.readlink(pointer)}, which is gone; bring it back, point to another state beside "
            "it, or start anew with resume=never"
        )
    return None


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step="))


def _point(pointer: Path, state: Path) -> None:
    """Make `pointer` name a state in its own folder, at once: it always names this one or the one before."""
    made = pointer.with_name(f".{pointer.name}.partial")
    made.unlink(missing_ok=True)
    made.symlink_to(state.name)
    os.replace(made, pointer)


def _flush(path: Path) -> None:
    """Bring a file to the disk before its name says that it is there; a machine may go down too."""
    for file in (path, *path.rglob("*")) if path.is_dir() else (path,):
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
