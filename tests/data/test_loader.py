"""The watchdog: whoever waits too long says who it is and for which record of which shard."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from commonspace.content import Content
from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.data.mixture import Mixture
from commonspace.data.places import Places
from commonspace.errors import DataError
from commonspace.processing.pieces import Pieces
from tests.data.conftest import ByteProcessor

TASKS = {"summary": {"batch_size": 4, "rate": 1.0}}


class Stuck(ByteProcessor):
    """Takes for ever over the content that holds `text`."""

    def __init__(self, text: str, seconds: float) -> None:
        self.text, self.seconds = text, seconds

    def __call__(self, content: Content, **options) -> Pieces:
        if any(self.text in part.text for part in content.parts):
            time.sleep(self.seconds)
        return super().__call__(content, **options)


def module(root: Path, processor, **options) -> CommonspaceDataModule:
    return CommonspaceDataModule(root, TASKS, processor, seed=3, steps=4, **options)


def planned(root: Path, rank: int, step: int) -> int:
    """The last row that a rank of two reads for a step."""
    plans = module(root, ByteProcessor())
    plans.setup()
    mixture = Mixture(plans.plans, seed=3, steps=4, rank=rank, world_size=2)
    return int(mixture.plan(step).indices[-1])


@pytest.mark.slow
def test_with_workers_training_ends_and_names_rank_step_and_record(two_tasks: Path) -> None:
    row = planned(two_tasks, rank=1, step=1)
    stuck = Stuck(f"body {row} ", seconds=60.0)
    loader = module(two_tasks, stuck, workers=1, stall_seconds=5.0).loader(rank=1, world_size=2)
    message = rf"process 1 has waited 5 s for step 1 of task summary: it reads summary/train-00000\.tar:t{row};"
    started, taken = time.monotonic(), 0
    with pytest.raises(DataError, match=message):
        for _ in loader:
            taken += 1
    assert taken == 1 and time.monotonic() - started < 50
    assert loader.state_dict()["step"] == 1, "the batch that never came is planned again"


def test_without_workers_the_log_names_it_and_training_goes_on(two_tasks: Path, caplog) -> None:
    row = planned(two_tasks, rank=0, step=1)
    stuck = Stuck(f"body {row} ", seconds=0.6)
    loader = module(two_tasks, stuck, stall_seconds=0.2).loader(rank=0, world_size=2)
    with caplog.at_level(logging.ERROR):
        assert len(list(loader)) == 4
    assert len(caplog.messages) == 1
    assert f"process 0 has waited 0.2 s for step 1 of task summary: it reads summary/train-00000.tar:t{row};" in (
        caplog.text
    )


def test_a_batch_that_nobody_has_begun_is_named_by_its_shards(two_tasks: Path) -> None:
    loader = module(two_tasks, ByteProcessor(), stall_seconds=5).loader()
    assert "step 0 of task summary: no worker has begun it; it is to come from summary/train-00000.tar;" in (
        loader.stalled()
    )


def test_no_limit_waits(two_tasks: Path, caplog) -> None:
    row = planned(two_tasks, rank=0, step=0)
    assert len(list(module(two_tasks, Stuck(f"body {row} ", 0.3)).loader(0, 2))) == 4
    assert not caplog.messages


def test_places_are_by_step() -> None:
    places = Places()
    assert places.of(0) is None
    places.note(0, 1, 7)
    places.note(3, 0, 9)
    assert places.of(0) is None and places.of(3) == (0, 9)
