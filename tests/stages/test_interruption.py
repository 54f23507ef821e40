"""SIGTERM and SIGUSR1 while a run trains: it saves after the step, leaves with a status that says so, and goes on."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from commonspace.data.datamodule import Batch
from commonspace.stages import interruption
from commonspace.stages.checkpoints import Checkpoints, pointed
from commonspace.stages.interruption import Interruption, requeue
from tests.data.conftest import *  # noqa: F403 (shards and a processor made on the spot)
from tests.data.test_datamodule import STEPS, Counter, make, told


class Slow(Counter):
    """Takes a while for a step, says where it is, and never comes to its end by itself."""

    def __init__(self, note: Path) -> None:
        super().__init__()
        self.note = note

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self.note.write_text(str(batch.step))
        time.sleep(0.1 if batch.step < STEPS - 2 else 60)
        return super().training_step(batch, index)


def fit(model: Counter, module, folder: Path, **resume) -> None:
    asked = Interruption()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=STEPS, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[asked, Checkpoints(folder, every=1000, interruption=asked)],
    )  # fmt: skip
    trainer.fit(model, datamodule=module, **resume)


def in_a_group(model: Counter, module, folder: Path) -> None:
    torch.set_num_threads(1)  # threads do not survive a fork
    os.setsid()  # as a job of a scheduler: its signals reach workers too
    fit(model, module, folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_signal_saves_after_the_step_and_the_run_goes_on(two_tasks, processor, tmp_path, number, workers) -> None:
    note, folder = tmp_path / "step", tmp_path / "checkpoints"
    process = get_context("fork").Process(
        target=in_a_group, args=(Slow(note), make(two_tasks, processor, workers=workers), folder)
    )
    process.start()
    ends = time.monotonic() + 60
    while not (note.exists() and note.read_text() not in ("", "0", "1", "2", "3")):
        assert process.is_alive() and time.monotonic() < ends
        time.sleep(0.01)
    os.killpg(process.pid, number)
    process.join(60)
    assert process.exitcode == 128 + number
    stopped = torch.load(pointed(folder), weights_only=True)["global_step"]
    assert 4 < stopped < STEPS
    resumed = Counter()
    fit(resumed, make(two_tasks, processor), folder, ckpt_path=pointed(folder), weights_only=True)
    assert resumed.seen == [told(batch) for batch in make(two_tasks, processor).loader()][stopped:]


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in interruption.SIGNALS]
    for end in (lambda c: c.on_train_end(None, None), lambda c: c.on_exception(None, None, None)):
        callback = Interruption()
        callback.on_train_start(SimpleNamespace(received_sigterm=False), None)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert callback.asked
        end(callback)
        assert [signal.getsignal(number) for number in interruption.SIGNALS] == before


@pytest.mark.parametrize("first, second", [(signal.SIGTERM, signal.SIGUSR1), (signal.SIGUSR1, signal.SIGTERM)])
def test_of_both_signals_the_one_that_ends_for_good_counts(first, second) -> None:
    callback = Interruption()
    callback.on_train_start(SimpleNamespace(received_sigterm=False), None)
    for number in (first, second):
        os.kill(os.getpid(), number)
    callback.on_train_end(None, None)
    assert callback.received is signal.SIGTERM


def test_a_sigterm_that_came_before_the_first_step_counts() -> None:
    callback = Interruption()
    callback.on_train_start(SimpleNamespace(received_sigterm=True), None)
    callback.on_train_end(None, None)
    assert callback.asked


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, []),
        ({"SLURM_JOB_ID": "7"}, [["scontrol", "requeue", "7"]]),
        (
            {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "3"},
            [["scontrol", "requeue", "8_3"]],
        ),
    ],
)
def test_a_job_goes_back_into_the_queue(monkeypatch, environment, expected) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked: list[list[str]] = []
    done = SimpleNamespace(returncode=0, stderr="")
    monkeypatch.setattr(interruption.subprocess, "run", lambda words, **_: asked.append(words) or done)
    requeue()
    assert asked == expected


@pytest.mark.parametrize(
    "agreed, first, requeued",
    [(signal.SIGUSR1, True, True), (signal.SIGUSR1, False, False), (signal.SIGTERM, True, False)],
)
def test_only_the_first_process_of_a_job_told_of_its_limit_requeues(monkeypatch, agreed, first, requeued) -> None:
    asked: list[str] = []
    monkeypatch.setattr(interruption, "close", lambda loggers, status: asked.append(f"closed {status}"))
    monkeypatch.setattr(interruption, "requeue", lambda: asked.append("requeued"))
    with pytest.raises(SystemExit) as left:
        Interruption().leave(SimpleNamespace(is_global_zero=first, global_step=3, loggers=[]), agreed)
    status = 128 + agreed
    assert asked == [f"closed {status}", *["requeued"] * requeued] and left.value.code == status


HEARD = [  # by each of two processes, and what both leave by
    (None, None, None),
    (None, signal.SIGUSR1, signal.SIGUSR1),
    (signal.SIGUSR1, None, signal.SIGUSR1),
    (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM),
]


def test_processes_leave_by_the_same_signal_whoever_heard_it(tmp_path) -> None:
    torch.multiprocessing.spawn(agree, (tmp_path,), nprocs=2)
    expected = repr([both for *_, both in HEARD])
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == [expected, expected]


def agree(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    strategy = pl.strategies.DDPStrategy(parallel_devices=[torch.device("cpu")] * 2)
    strategy._local_rank = rank
    found, callback = [], Interruption()
    for heard in HEARD:
        callback.received = heard[rank]
        found.append(callback.agreed(SimpleNamespace(strategy=strategy)))
    (folder / f"{rank}.txt").write_text(repr(found))
    torch.distributed.destroy_process_group()
