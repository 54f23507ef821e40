"""A tiny model behind a real server on this machine."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn

from commonspace import Embedder
from commonspace.serving.http.app import make_app
from commonspace.serving.http.service import Limits, Service
from tests.models.tiny import tiny_embedder

NAMES = ("fox", "gemini-fox")
LIMITS = Limits(body_bytes=2**20, media_bytes=200_000, contents=8, waiting=12)


@dataclass(frozen=True)
class Served:
    """A server: its address, what answers behind it, and a plain client."""

    url: str
    service: Service
    client: httpx.Client

    @property
    def model(self) -> Embedder:
        return self.service.model

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        """One JSON body, in ASCII: a lone surrogate travels as its escape."""
        return self.client.post(path, content=json.dumps(body), **options)


@contextmanager
def serving(service: Service, token: str | None = None, **options: Any) -> Iterator[Served]:
    """The server of a service on a free port of the loopback, until the block ends."""
    config = uvicorn.Config(make_app(service, token), host="127.0.0.1", port=0, log_level="critical", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended before it began"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield Served(url, service, client)
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def model() -> Embedder:
    return tiny_embedder(pooling="input_and_last", text_hidden=8)


@pytest.fixture(scope="session")
def served(model: Embedder) -> Iterator[Served]:
    """The model under two names, without a token, within small limits."""
    with serving(Service(model, NAMES, LIMITS, wait_seconds=0.05)) as one:
        yield one


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Starts further servers; they end with the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(serving(*args, **options))
