"""Contents of many requests in few forward passes: what waits while the model is busy goes through it together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from commonspace.processing.pieces import Pieces
from commonspace.serving.http.errors import Busy

Embed = Callable[[Sequence[Pieces]], np.ndarray]  # contents to unit rows float32 [N, E]


@dataclass
class _Waiting:
    pieces: Pieces
    vector: asyncio.Future[np.ndarray] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """One batch at a time through `embed`, in a thread of its own.

    batch_tokens   tokens of a batch; a longer content has one to itself
    wait_seconds   how long a first content waits for others while the model is idle
    batches        contents of each batch so far, newest last (of the last thousand)
    """

    def __init__(self, embed: Embed, *, batch_tokens: int, wait_seconds: float) -> None:
        self.embed, self.batch_tokens, self.wait_seconds = embed, batch_tokens, wait_seconds
        self.batches: deque[int] = deque(maxlen=1000)
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End; what still waits is refused."""
        if self._worker is not None:
            self._worker.cancel()
        while self._waiting:
            one = self._waiting.popleft()
            if not one.vector.done():
                one.vector.set_exception(Busy("the server is stopping"))

    async def vectors(self, batch: Sequence[Pieces]) -> np.ndarray:
        """Unit rows float32 [N, E] of contents, once their turn has come."""
        mine = [_Waiting(pieces) for pieces in batch]
        self._waiting.extend(mine)
        self._arrived.set()
        try:
            return np.stack([await one.vector for one in mine])
        finally:
            for one in mine:  # a client that went away, or an error: the rest of its contents need no turn
                if one.vector.done() and not one.vector.cancelled():
                    one.vector.exception()  # seen, so that nobody complains
                one.vector.cancel()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            if self._tokens() < self.batch_tokens:
                await asyncio.sleep(self.wait_seconds)
            taken = self._take()
            if not taken:
                self._arrived.clear()
                continue
            self.batches.append(len(taken))
            try:
                rows_NE = await asyncio.to_thread(self.embed, [one.pieces for one in taken])
            except Exception as error:  # whatever the model raises is each of their requests' to answer
                for one in taken:
                    if not one.vector.done():
                        one.vector.set_exception(error)
                continue
            for one, row_E in zip(taken, rows_NE, strict=True):
                if not one.vector.done():
                    one.vector.set_result(row_E)

    def _tokens(self) -> int:
        return sum(one.pieces.tokens for one in self._waiting)

    def _take(self) -> list[_Waiting]:
        """The next batch, in the order of arrival; those whose client went away are left out."""
        taken: list[_Waiting] = []
        tokens = 0
        while self._waiting:
            one = self._waiting[0]
            if one.vector.done():
                self._waiting.popleft()
                continue
            if taken and tokens + one.pieces.tokens > self.batch_tokens:
                break
            tokens += one.pieces.tokens
            taken.append(self._waiting.popleft())
        return taken
