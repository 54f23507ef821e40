"""A run that is killed while it trains: what comes after its last checkpoint equals a run that nobody killed.

Sample keys, every value of every piece, what was skipped, and the draws of the step itself are compared. The kill comes
from outside and may strike anywhere: in a read, between two steps, while workers are filling batches.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from commonspace.data.batch import Batch
from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.stages.checkpoints import Checkpoints, pointed
from tests.data.test_datamodule import STEPS, Counter, make, told

CHECKPOINT_EVERY = 3


def seen(batch: Batch, rank: int = 0) -> str:
    """All that a step sees, and a draw as its dropout would make one."""
    torch.manual_seed(batch.seed ^ rank)
    return json.dumps([*told(batch)[:-1], *map(repr, batch.parts), torch.rand(3).tolist()])


def keep(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    path.with_suffix(".partial").write_text(text)
    path.with_suffix(".partial").replace(path)


def wait(step: int, pause: float) -> None:
    """Take a while for a step; whoever is to be killed does not come to the end before."""
    time.sleep(60 if pause and step == STEPS - 2 else pause)


def train(module: CommonspaceDataModule, folder: Path, rank: int = 0, world: int = 1, pause: float = 0.0) -> None:
    """A loop without a trainer: notes what it sees, keeps its state, and goes on from it."""
    if (folder / "state.json").exists():
        module.load_state_dict(json.loads((folder / "state.json").read_text()))
    loader = module.loader(rank, world)
    with (folder / f"seen{rank}.jsonl").open("a") as log:
        for batch in loader:
            log.write(seen(batch, rank) + "\n")
            log.flush()
            wait(batch.step, pause)
            if rank == 0 and (batch.step + 1) % CHECKPOINT_EVERY == 0:
                keep(folder / "state.json", json.dumps(loader.state_dict()))


def steps_of(path: Path) -> dict[int, str]:
    """What was seen at each step, the last time it was made; a line that the kill cut short does not count."""
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return {json.loads(line)[0]: line for line in lines}


def killed(targets: list[tuple[Callable, tuple]], log: Path, after: int) -> None:
    """Start processes, and kill them without warning once so many lines are in `log`; a moment later, at random."""
    context = get_context("fork")
    processes = [context.Process(target=target, args=arguments) for target, arguments in targets]
    for process in processes:
        process.start()
    ends = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= after):
        assert time.monotonic() < ends and all(process.is_alive() for process in processes)
        time.sleep(0.002)
    time.sleep(random.random() * 0.02)
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * len(processes)


@pytest.fixture
def whole(two_tasks: Path, processor) -> list[list[str]]:
    """What each of two ranks sees of a run that nobody kills, after what one process sees of it."""
    runs = [(0, 1), (0, 2), (1, 2)]
    return [[seen(b, rank) + "\n" for b in make(two_tasks, processor).loader(rank, world)] for rank, world in runs]


@pytest.mark.parametrize("before, after", [(0, 0), (2, 2), (4, 4), (4, 0), (0, 2)])
def test_kill_9_loses_nothing(two_tasks, processor, whole, tmp_path, before, after):
    folder = tmp_path / "run"
    folder.mkdir()
    step = random.randrange(CHECKPOINT_EVERY + 1, STEPS - 6)
    first = make(two_tasks, processor, workers=before)
    killed([(train, (first, folder, 0, 1, 0.01))], folder / "seen0.jsonl", step)
    stopped = json.loads((folder / "state.json").read_text())["step"]
    assert 0 < stopped < STEPS
    (folder / "seen0.jsonl").unlink()
    train(make(two_tasks, processor, workers=after), folder)
    found = steps_of(folder / "seen0.jsonl")
    assert sorted(found) == list(range(stopped, STEPS)), f"killed after {step}"
    assert [found[number] for number in sorted(found)] == whole[0][stopped:]


@pytest.mark.parametrize("workers", [0, 2])
def test_kill_9_of_two_ranks_loses_nothing(two_tasks, processor, whole, tmp_path, workers):
    """They die at different steps; both go on from the state of the first."""
    folder = tmp_path / "run"
    folder.mkdir()
    step = random.randrange(CHECKPOINT_EVERY + 1, STEPS - 8)
    ranks = [(train, (make(two_tasks, processor, workers=workers), folder, rank, 2, 0.01)) for rank in (0, 1)]
    killed(ranks, folder / "seen0.jsonl", step)
    stopped = json.loads((folder / "state.json").read_text())["step"]
    for rank in (0, 1):
        (folder / f"seen{rank}.jsonl").unlink(missing_ok=True)
        train(make(two_tasks, processor), folder, rank, 2)
        found = steps_of(folder / f"seen{rank}.jsonl")
        assert [found[number] for number in sorted(found)] == whole[rank + 1][stopped:], f"killed after {step}"
        keep(folder / "state.json", json.dumps({**json.loads((folder / "state.json").read_text()), "step": stopped}))


def test_two_ranks_go_on_as_one_and_one_as_two(two_tasks, processor, whole):
    """The state is of the global batch: another number of processes takes other shares of the same rows."""
    loader = make(two_tasks, processor).loader(0, 2)
    iterator = iter(loader)
    for _ in range(7):
        next(iterator)
    alone = make(two_tasks, processor)
    alone.load_state_dict(loader.state_dict())
    assert [seen(batch) + "\n" for batch in alone.loader()] == whole[0][7:]


def test_a_resumed_run_skips_what_the_first_run_skipped(two_tasks, processor, whole):
    skips = [json.loads(line)[4] for line in whole[0]]
    places = [step for step, messages in enumerate(skips) if messages]
    assert len(places) >= 3, "the broken records come up again and again"
    for stopped in (places[0], places[1], places[-1]):
        first = make(two_tasks, processor).loader()
        iterator = iter(first)
        for _ in range(stopped):
            next(iterator)
        again = make(two_tasks, processor, workers=2)
        again.load_state_dict(first.state_dict())
        loader = again.loader()
        assert [batch.skipped for batch in loader] == skips[stopped:]
        assert sum(loader.skipped.values()) == sum(map(len, skips)), "counted before the restart too"


class Noting(Counter):
    """Notes on disk what it sees, as it goes."""

    def __init__(self, log: Path, pause: float = 0.0) -> None:
        super().__init__()
        self.log_file, self.pause = log, pause

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        with self.log_file.open("a") as file:
            file.write(seen(batch, self.global_rank) + "\n")
        wait(batch.step, self.pause)
        return self.weight.sum() * 0.0


def lightning(root: Path, processor, folder: Path, workers: int, rank: int, port: int, pause: float = 0.0) -> None:
    """One of two processes that train under Lightning, or with no port one alone, from the last checkpoint on."""
    torch.set_num_threads(1)
    if port:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "LOCAL_RANK": rank, "NODE_RANK": 0}
        os.environ.update({name: str(value) for name, value in place.items()})
    trainer = pl.Trainer(
        accelerator="cpu", devices=2 if port else 1, strategy="ddp" if port else "auto", max_steps=STEPS, logger=False,
        callbacks=[Checkpoints(folder / "checkpoints", CHECKPOINT_EVERY)], enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    last = pointed(folder / "checkpoints")
    module = make(root, processor, workers=workers)
    trainer.fit(Noting(folder / f"seen{rank}.jsonl", pause), datamodule=module, ckpt_path=last, weights_only=True)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow
@pytest.mark.parametrize("ranks, workers", [(1, 2), (1, 4), (2, 0), (2, 2)])
def test_kill_9_under_lightning(two_tasks, processor, whole, tmp_path, ranks, workers):
    folder = tmp_path / "run"
    folder.mkdir()
    step = random.randrange(CHECKPOINT_EVERY + 2, STEPS - 8)

    def started(pause: float) -> list[tuple[Callable, tuple]]:
        port = free_port() if ranks == 2 else 0
        return [(lightning, (two_tasks, processor, folder, workers, r, port, pause)) for r in range(ranks)]

    killed(started(0.02), folder / "seen0.jsonl", step)
    state = torch.load(pointed(folder / "checkpoints"), weights_only=True)
    stopped = state["CommonspaceDataModule"]["step"]
    assert 0 < stopped == state["global_step"] < STEPS
    for rank in range(ranks):
        (folder / f"seen{rank}.jsonl").unlink()
    context = get_context("fork")
    processes = [context.Process(target=target, args=arguments) for target, arguments in started(0.0)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * ranks
    for rank in range(ranks):
        found = steps_of(folder / f"seen{rank}.jsonl")
        assert [found[number] for number in sorted(found)] == whole[rank + ranks - 1][stopped:], f"killed after {step}"
