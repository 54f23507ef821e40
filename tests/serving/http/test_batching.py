"""Contents of many callers share forward passes, each gets its own row, and an error reaches those it concerns."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from commonspace.processing.pieces import Pieces
from commonspace.processing.processor import text_piece
from commonspace.serving.http.batching import Batcher


def content(number: int, tokens: int = 4) -> Pieces:
    """A content whose first token is its number."""
    return Pieces((text_piece([number] * tokens),))


def numbers(batch: Sequence[Pieces]) -> np.ndarray:
    """Rows that say which content they are of."""
    return np.array([[float(pieces.pieces[0].value[0])] for pieces in batch], dtype=np.float32)


async def ask(batcher: Batcher, groups: Sequence[Sequence[Pieces]]) -> list[np.ndarray]:
    await batcher.start()
    try:
        return await asyncio.gather(*(batcher.vectors(group) for group in groups))
    finally:
        await batcher.stop()


def test_callers_share_batches_and_get_their_own_rows() -> None:
    batcher = Batcher(numbers, batch_tokens=1000, wait_seconds=0.01)
    groups = [[content(10 * caller + number) for number in range(3)] for caller in range(7)]
    for caller, rows in enumerate(asyncio.run(ask(batcher, groups))):
        assert rows[:, 0].tolist() == [10 * caller, 10 * caller + 1, 10 * caller + 2]
    assert list(batcher.batches) == [21]


def test_a_batch_holds_no_more_tokens_than_it_may() -> None:
    batcher = Batcher(numbers, batch_tokens=10, wait_seconds=0.0)
    rows = asyncio.run(ask(batcher, [[content(0), content(1), content(2, tokens=30), content(3)]]))
    assert rows[0][:, 0].tolist() == [0, 1, 2, 3]
    assert list(batcher.batches) == [2, 1, 1], "the long one goes alone"


def test_what_arrives_while_the_model_is_busy_goes_together() -> None:
    first, go_on = threading.Event(), threading.Event()

    def slow(batch: Sequence[Pieces]) -> np.ndarray:
        first.set()
        assert go_on.wait(10)
        return numbers(batch)

    async def run() -> list[np.ndarray]:
        batcher = Batcher(slow, batch_tokens=1000, wait_seconds=0.0)
        await batcher.start()
        early = asyncio.create_task(batcher.vectors([content(0)]))
        await asyncio.to_thread(first.wait, 10)
        late = [asyncio.create_task(batcher.vectors([content(number)])) for number in range(1, 6)]
        await asyncio.sleep(0)
        go_on.set()
        rows = await asyncio.gather(early, *late)
        assert list(batcher.batches) == [1, 5]
        await batcher.stop()
        return rows

    assert [float(row[0, 0]) for row in asyncio.run(run())] == [0, 1, 2, 3, 4, 5]


def test_a_failed_batch_fails_its_callers_and_no_others() -> None:
    def picky(batch: Sequence[Pieces]) -> np.ndarray:
        if any(int(pieces.pieces[0].value[0]) == 13 for pieces in batch):
            raise RuntimeError("thirteen")
        return numbers(batch)

    async def run() -> None:
        batcher = Batcher(picky, batch_tokens=4, wait_seconds=0.0)
        await batcher.start()
        found = await asyncio.gather(
            batcher.vectors([content(1)]), batcher.vectors([content(13), content(2)]), batcher.vectors([content(3)]),
            return_exceptions=True,
        )  # fmt: skip
        assert [type(one) for one in found] == [np.ndarray, RuntimeError, np.ndarray]
        await batcher.stop()

    asyncio.run(run())


def test_contents_of_a_caller_that_went_away_take_no_turn() -> None:
    async def run() -> list[int]:
        batcher = Batcher(numbers, batch_tokens=1000, wait_seconds=0.05)
        await batcher.start()
        gone = asyncio.create_task(batcher.vectors([content(number) for number in range(5)]))
        await asyncio.sleep(0)
        gone.cancel()
        await batcher.vectors([content(9)])
        await batcher.stop()
        return list(batcher.batches)

    assert asyncio.run(run()) == [1]


def test_stopping_answers_those_who_wait() -> None:
    async def run() -> None:
        batcher = Batcher(numbers, batch_tokens=1000, wait_seconds=60)
        await batcher.start()
        waiting = asyncio.create_task(batcher.vectors([content(1)]))
        await asyncio.sleep(0)
        await batcher.stop()
        with pytest.raises(Exception, match="is stopping"):
            await asyncio.wait_for(waiting, 5)

    asyncio.run(run())
