"""SIGTERM and SIGUSR1: the step under way is finished, saved and left, so that a restart goes on at the next batch.

Lightning saves from inside the signal's handler, which may strike between a weight and its neighbour, and counts the
batch it strikes in as done. Here the handler only takes note.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from commonspace.tracking.logger import close

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGUSR1, signal.SIGTERM)  # the later one counts where both came


class Interruption(Callback):
    """Takes note of the signals that end a job; `asked` says whether one came here, `agreed` which came to any process.

    Under SLURM a job that was told by SIGUSR1, ahead of its time limit, is put back into the queue. The exit status is
    128 and the signal's number, as of a process that the signal ended.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, stage: pl.LightningModule) -> None:
        """Listen, in place of Lightning's own handlers; a SIGTERM that these have met is not forgotten."""
        if threading.current_thread() is not threading.main_thread():  # Python hears signals in the main thread alone
            return
        if trainer.received_sigterm:
            self.received = signal.SIGTERM
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: object) -> None:
        heard = signal.Signals(number)
        self.received = max(self.received or heard, heard, key=SIGNALS.index)

    @property
    def asked(self) -> bool:
        """Whether this process was asked to end."""
        return self.received is not None

    def agreed(self, trainer: pl.Trainer) -> signal.Signals | None:
        """What any process was asked by, the same everywhere; SIGTERM before SIGUSR1. Every process must call this."""
        own = SIGNALS.index(self.received) + 1 if self.received else 0
        most = trainer.strategy.reduce(torch.tensor(own, device=trainer.strategy.root_device), reduce_op="max")
        return SIGNALS[int(most) - 1] if most else None

    def leave(self, trainer: pl.Trainer, asked: signal.Signals) -> NoReturn:
        """End the run after its state was saved: every process must come here at the same step, `asked` by the same."""
        log.warning("%s: saved after step %d; start again to go on there", asked.name, trainer.global_step)
        close(trainer.loggers, status=128 + asked)  # first: SLURM ends what it puts back into the queue
        if asked is signal.SIGUSR1 and trainer.is_global_zero:
            requeue()
        raise SystemExit(128 + asked)

    def on_train_end(self, trainer: pl.Trainer, stage: pl.LightningModule) -> None:
        """Listen no longer."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, stage: pl.LightningModule, exception: BaseException) -> None:
        """Listen no longer."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}


def requeue() -> None:
    """Put this SLURM job back into the queue; elsewhere nothing."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    if done.returncode:
        log.error("scontrol requeue %s failed (%s); submit the job again by hand", job, done.stderr.strip())
