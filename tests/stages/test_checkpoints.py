"""Checkpoints: when one is written, what the pointers name, and that no kill leaves one that cannot be gone on from."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from commonspace.errors import DataError
from commonspace.stages import checkpoints
from commonspace.stages.checkpoints import BEST, LAST, Checkpoints, pointed
from commonspace.stages.interruption import Interruption


def trainer_at(step: int) -> SimpleNamespace:
    """A trainer of one process that has taken so many steps of ten, whose state is their number."""
    strategy = SimpleNamespace(
        reduce_boolean_decision=lambda value, all: value,
        reduce=lambda value, reduce_op: value,
        root_device=None,
        barrier=lambda name: None,
    )
    made = SimpleNamespace(global_step=step, is_global_zero=True, strategy=strategy, max_steps=10, loggers=[])
    made.save_checkpoint = lambda path, weights_only: torch.save({"step": step}, path)
    return made


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step=")) for path in folder.glob("step=*.ckpt"))


def step_of(folder: Path, name: str = LAST) -> int | None:
    path = pointed(folder, name)
    return None if path is None else torch.load(path, weights_only=True)["step"]


def run(made: Checkpoints, scores: dict[int, float] | None = None, steps: int = 10) -> list[int]:
    """Steps one to the last, dev scored after some; returns those after which something was saved."""
    stage, saved = SimpleNamespace(dev_scored=(0, 0.0)), []
    for step in range(1, steps + 1):
        if step in (scores or {}):
            stage.dev_scored = (step, scores[step])
        before = step_of(made.folder)
        made.on_train_batch_end(trainer_at(step), stage)
        saved += [step] if step_of(made.folder) != before else []
    return saved


@pytest.mark.parametrize("every, expected", [(1, [*range(1, 11)]), (4, [4, 8, 10]), (20, [10])])
def test_by_steps_and_after_the_last(tmp_path, every, expected) -> None:
    assert run(Checkpoints(tmp_path, every)) == expected


@pytest.mark.parametrize("keep, expected", [(0, [10]), (1, [10]), (2, [8, 10]), (9, [4, 8, 10])])
def test_the_latest_are_kept(tmp_path, keep, expected) -> None:
    run(Checkpoints(tmp_path, 4, keep=keep))
    assert steps_in(tmp_path) == expected and step_of(tmp_path) == 10
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_symlink()) == [LAST]
    assert os.readlink(tmp_path / LAST) == "step=10.ckpt", "in its own folder, so that the folder can be moved"


@pytest.mark.parametrize("shares", [False, True])
def test_a_full_disk_is_told_and_the_last_state_stays(tmp_path, shares: bool) -> None:
    made = Checkpoints(tmp_path, 4)
    run(made, steps=5)

    def full(path: Path, **_: object) -> None:
        if shares:
            path.mkdir()
        (path / "share" if shares else path).write_text("half")
        raise OSError(28, "No space left on device")

    trainer = trainer_at(8)
    trainer.save_checkpoint = full
    with pytest.raises(DataError, match="step=8.ckpt: cannot be written .*No space left.*; free space"):
        made.save(trainer)
    assert steps_in(tmp_path) == [4] and step_of(tmp_path) == 4 and not list(tmp_path.glob(".*"))


def test_by_dev_score(tmp_path) -> None:
    made = Checkpoints(tmp_path, 100, best=True)
    assert run(made, {2: 0.3, 4: 0.5, 6: 0.4, 8: 0.5}) == [2, 4, 10]
    assert step_of(tmp_path, BEST) == 4 and step_of(tmp_path) == 10 and steps_in(tmp_path) == [4, 10]
    again = Checkpoints(tmp_path, 100, best=True)
    again.load_state_dict(made.state_dict())
    again.on_train_batch_end(trainer_at(9), SimpleNamespace(dev_scored=(9, 0.45)))
    assert step_of(tmp_path, BEST) == 4, "the best so far is remembered over a restart"


def test_scores_without_a_number_are_never_best(tmp_path) -> None:
    assert run(Checkpoints(tmp_path, 100, best=True), {2: float("nan"), 4: 0.1}) == [4, 10]


def test_by_time(tmp_path, monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    made, saved = Checkpoints(tmp_path, 100, minutes=5), []
    for step in range(1, 10):
        now[0] += 120
        before = step_of(tmp_path)
        made.on_train_batch_end(trainer_at(step), SimpleNamespace())
        saved += [step] if step_of(tmp_path) != before else []
    assert saved == [3, 6, 9]


def test_when_a_signal_asks(tmp_path) -> None:
    asked = Interruption()
    made = Checkpoints(tmp_path, 100, interruption=asked)
    made.on_train_batch_end(trainer_at(2), SimpleNamespace())
    assert pointed(tmp_path) is None
    asked.received = signal.SIGTERM
    with pytest.raises(SystemExit):
        made.on_train_batch_end(trainer_at(3), SimpleNamespace())
    assert step_of(tmp_path) == 3


def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path) -> None:
    """This process heard nothing; the others say that one did."""
    trainer = trainer_at(3)
    trainer.strategy.reduce_boolean_decision = lambda value, all: True
    trainer.strategy.reduce = lambda value, reduce_op: torch.tensor(1)  # SIGUSR1
    with pytest.raises(SystemExit, match="138"):
        Checkpoints(tmp_path, 100, interruption=Interruption()).on_train_batch_end(trainer, SimpleNamespace())
    assert step_of(tmp_path) == 3


def test_a_pointer_to_nothing_is_no_fresh_start(tmp_path) -> None:
    assert pointed(tmp_path) is None
    run(Checkpoints(tmp_path, 4))
    (tmp_path / "step=10.ckpt").unlink()
    with pytest.raises(DataError, match=r"last\.ckpt: points to step=10\.ckpt, which is gone.*resume=never"):
        pointed(tmp_path)


def test_sharded_states_are_folders_and_handled_as_files_are(tmp_path) -> None:
    def save(path: Path, weights_only: bool) -> None:
        path.mkdir()
        (path / "shard0").write_text("x")

    made = Checkpoints(tmp_path, 1)
    for step in (1, 2, 2, 3):
        trainer = trainer_at(step)
        trainer.save_checkpoint = save
        made.save(trainer)
    assert steps_in(tmp_path) == [3] and (pointed(tmp_path) / "shard0").read_text() == "x"


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _half(path: Path, weights_only: bool) -> None:
    """The first half of a state, and then nothing more."""
    torch.save({"step": 2}, path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    die()


def _killed_at(place: str, folder: Path) -> None:
    """Save a first state, and die in the middle of saving the second, at a place of `Checkpoints.save`."""
    made, trainer = Checkpoints(folder, 1), trainer_at(2)
    made.save(trainer_at(1))
    if place == "written":
        trainer.save_checkpoint = _half
    elif place == "renamed":
        checkpoints._point = die
    elif place == "pointed":
        checkpoints.os.replace = lambda old, new: die() if new.name == LAST else os.rename(old, new)
    else:
        setattr(made if place == "_prune" else checkpoints, place, die)
    made.save(trainer)


@pytest.mark.parametrize("place, step", [("written", 1), ("_flush", 1), ("renamed", 1), ("pointed", 1), ("_prune", 2)])
def test_a_kill_at_any_place_of_a_save_leaves_a_last_that_loads(tmp_path, place, step) -> None:
    process = get_context("fork").Process(target=_killed_at, args=(place, tmp_path))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert step_of(tmp_path) == step
    made = Checkpoints(tmp_path, 1)
    made.save(trainer_at(3))
    assert step_of(tmp_path) == 3 and steps_in(tmp_path) == [3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, "step=3.ckpt"], "nothing is left of the attempt"


class Large(pl.LightningModule):
    """Half of the time of a step goes into writing what it has."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(400_000))

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def fit(folder: Path) -> None:
    torch.set_num_threads(1)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=100_000, logger=False, callbacks=[Checkpoints(folder, 1, keep=2)],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(torch.zeros(100_000, 1))
    trainer.fit(Large(), data, ckpt_path=pointed(folder), weights_only=True)


@pytest.mark.slow
def test_kills_at_random_moments_never_break_the_last(tmp_path) -> None:
    reached = 0
    for _ in range(6):
        process = get_context("fork").Process(target=fit, args=(tmp_path,))
        process.start()
        ends = time.monotonic() + 60
        while not (pointed(tmp_path) and int(pointed(tmp_path).stem.removeprefix("step=")) > reached):
            assert process.is_alive() and time.monotonic() < ends
            time.sleep(0.01)
        time.sleep(random.random() * 0.3)
        process.kill()
        process.join(30)
        state = torch.load(pointed(tmp_path), weights_only=True)
        assert state["global_step"] > reached, "on from where the last one was killed"
        reached = state["global_step"]


def test_nothing_is_saved_among_the_batches_of_a_step(tmp_path: Path) -> None:
    made, saved = Checkpoints(tmp_path, 1), []
    made.save = saved.append
    made.on_train_batch_end(trainer_at(3), SimpleNamespace(pending=1))
    assert not saved
    made.on_train_batch_end(trainer_at(3), SimpleNamespace())
    assert len(saved) == 1
