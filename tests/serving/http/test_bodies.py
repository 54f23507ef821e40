"""A body is refused at its first error, in memory and time that go with its size."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import tracemalloc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from commonspace import Embedder
from commonspace.serving.http import app as application
from commonspace.serving.http import bodies, gemini, openai
from commonspace.serving.http.errors import Refused
from commonspace.serving.http.service import Service

MANY = 20_000
PART = {"text": "a"}


@pytest.mark.parametrize(
    "kind, body, message",
    [
        (openai.Request, {"model": "fox", "input": [1.5] * MANY}, f"{MANY} contents are asked for, at most 8"),
        (openai.Request, {"model": "fox", "input": [1] + [1.5] * MANY}, "valid string"),
        (openai.Request, {"model": "fox", "input": [[1.5] * MANY]}, "valid string"),
        (openai.Request, {"model": "fox", "input": "a", **dict.fromkeys(map(str, range(MANY)))}, "has 20002 fields"),
        (gemini.Batch, {"requests": [1] * MANY}, "valid dictionary"),
        (gemini.Batch, {"requests": [{}] * MANY}, f"{MANY} contents are asked for, at most 8"),
        (gemini.Batch, {"requests": [dict.fromkeys(map(str, range(MANY)))]}, "has 20000 fields"),
        (gemini.Request, {"content": {"parts": [1] * MANY}}, f"{MANY} parts are sent, at most {bodies.PARTS}"),
        (gemini.Request, {"content": {"parts": [1] * bodies.PARTS}}, "valid dictionary"),
        (gemini.Batch, {"requests": [{"content": {"parts": [PART] * 5000}}] * 2}, "10000 parts are sent"),
    ],
)
def test_thousands_of_errors_cost_no_more_than_their_body(kind: Any, body: Any, message: str) -> None:
    data = json.dumps(body).encode()
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match=message):
            bodies.parse(data, kind, 8)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_bodies_are_read_beside_the_event_loop(model: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time."""
    seen: list[threading.Thread] = []
    inside = threading.Semaphore()

    def parse(*args: Any) -> Any:
        seen.append(threading.current_thread())
        assert inside.acquire(blocking=False), "one at a time"
        time.sleep(0.01)
        inside.release()
        return bodies.parse(*args)

    class Request:
        headers: Mapping[str, str] = MappingProxyType({})

        async def stream(self) -> Any:
            yield json.dumps({"model": "fox", "input": "a"}).encode()

    monkeypatch.setattr(application, "parse", parse)
    service = Service(model, ["fox"])

    async def run() -> list[Any]:
        return await asyncio.gather(*(application._read(Request(), openai.Request, service) for _ in range(4)))

    assert [one.input for one in asyncio.run(run())] == ["a"] * 4
    assert len(seen) == 4 and threading.main_thread() not in seen
