"""Paths, tokens, bodies beyond the limit, many clients at once, and what a failure inside says outside."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from google import genai
from google.genai import types

from commonspace import Embedder
from commonspace.serving.http import app as application
from commonspace.serving.http.service import Limits, Service
from tests.serving.http.conftest import LIMITS, Served

ONE = {"model": "fox", "input": "a red fox"}
PART = {"content": {"parts": [{"text": "a red fox"}]}}


def test_health(served: Served) -> None:
    assert served.client.get("/health").json() == {"status": "ok", "models": ["fox", "gemini-fox"]}


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("GET", "/", 404), ("GET", "/docs", 404), ("GET", "/openapi.json", 404), ("POST", "/v1/chat/completions", 404),
        ("GET", "/v1/embeddings", 405), ("DELETE", "/v1/models/fox", 405),
        ("POST", "/v1/models/fox:generateContent", 405), ("GET", "/v1/models/hen", 404),
    ],
)  # fmt: skip
def test_paths_that_are_not_served(method: str, path: str, status: int, served: Served) -> None:
    answer = served.client.request(method, path)
    assert answer.status_code == status and answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1beta/models/fox:embedContent"])
@pytest.mark.parametrize(
    "data", [b"", b"{", b"\xff", b"[" * 5000, b"[" * 200_000, b'{"model": "fox", "input": "a"', b"null", b'"fox"']
)
def test_bodies_that_are_no_request(path: str, data: bytes, served: Served) -> None:
    answer = served.client.post(path, content=data)
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_a_body_beyond_the_limit_is_not_read(served: Served) -> None:
    large = json.dumps({**ONE, "user": "x" * (LIMITS.body_bytes + 1)}).encode()

    def drips() -> Any:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    for body in (large, drips()):  # with its length before it, and without
        answer = served.client.post("/v1/embeddings", content=body)
        assert answer.status_code == 413 and "1048576" in answer.json()["error"]["message"]


def test_a_body_that_does_not_come_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "BODY_SECONDS", 0.05)

    def stalls() -> Any:
        yield b'{"model": '
        threading.Event().wait(0.3)
        yield b'"fox", "input": "a"}'

    assert served.client.post("/v1/embeddings", content=stalls()).status_code == 408


def test_a_token_is_asked_of_every_request(model: Embedder, serve: Any) -> None:
    locked = serve(Service(model, ["fox", "gemini-fox"]), "secret")
    for headers in ({}, {"Authorization": "Bearer secret2"}, {"Authorization": "Basic secret"}, {"x-goog-api-key": "s"},
                    {"Authorization": "Bearer"}, {"Authorization": "Bearer ünïcode".encode()}):  # fmt: skip
        for path, body in (("/v1/embeddings", ONE), ("/v1beta/models/fox:embedContent", PART)):
            answer = locked.post(path, body, headers=headers)
            assert answer.status_code == 401 and "brings no token" in answer.json()["error"]["message"]
    assert locked.client.get("/v1/models").status_code == 401 and locked.client.get("/health").status_code == 200
    known = openai.OpenAI(base_url=f"{locked.url}/v1", api_key="secret", max_retries=0)
    assert len(known.embeddings.create(model="fox", input="a").data) == 1
    client = genai.Client(api_key="secret", http_options=types.HttpOptions(base_url=locked.url))
    assert len(client.models.embed_content(model="fox", contents="a").embeddings) == 1
    wrong = openai.OpenAI(base_url=f"{locked.url}/v1", api_key="other", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        wrong.embeddings.create(model="fox", input="a")


def test_many_clients_share_batches_and_get_their_own(model: Embedder, serve: Any) -> None:
    service = Service(model, ["fox"], wait_seconds=0.1)
    one = serve(service)
    texts = [
        f"a {word} in the {other}" for word in ("fox", "bird", "snow") for other in ("red", "blue", "over", "runs")
    ]

    def ask(text: str) -> list[float]:
        return httpx.post(f"{one.url}/v1/embeddings", json={"model": "fox", "input": text}, trust_env=False).json()[
            "data"
        ][0]["embedding"]

    with ThreadPoolExecutor(len(texts)) as pool:
        found_NE = np.array(list(pool.map(ask, texts)))
    np.testing.assert_allclose(found_NE, model.embed(texts), atol=1e-5)
    assert sum(service.batcher.batches) == len(texts) and len(service.batcher.batches) < len(texts) / 2


def test_too_many_contents_at_once_are_refused_and_then_answered(
    model: Embedder, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(model, ["fox"], Limits(waiting=4))
    inside, go_on, embed = threading.Event(), threading.Event(), service.batcher.embed

    def slow(batch: Any) -> Any:
        inside.set()
        assert go_on.wait(10)
        return embed(batch)

    monkeypatch.setattr(service.batcher, "embed", slow)
    one = serve(service)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one.post, "/v1/embeddings", {"model": "fox", "input": ["a", "b", "c"]})
        assert inside.wait(10)
        answer = one.post("/v1/embeddings", {"model": "fox", "input": ["d", "e"]})
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
        assert "3 contents are being answered and 4 may" in answer.json()["error"]["message"]
        go_on.set()
        assert first.result(10).status_code == 200
    assert again(one, {"model": "fox", "input": ["d", "e"]}).status_code == 200


def again(one: Any, body: Any, patience: float = 10) -> Any:
    """Asked until there is room: a client has its answer a moment before the server counts it as given."""
    until = time.monotonic() + patience
    while (answer := one.post("/v1/embeddings", body)).status_code == 503 and time.monotonic() < until:
        time.sleep(0.01)
    return answer


def test_more_requests_than_may_be_open_are_refused_in_the_words_of_their_interface(
    model: Embedder, serve: Any
) -> None:
    one = serve(Service(model, ["fox"], Limits(connections=1)))
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> Any:
        yield b'{"model": "fox", '
        inside.set()
        assert go_on.wait(10)
        yield b'"input": "a red fox"}'

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one.client.post, "/v1/embeddings", content=slow())
        assert inside.wait(10)
        while (answer := one.post("/v1/embeddings", ONE)).status_code == 200:  # until the first has arrived
            pass
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
        assert answer.json()["error"]["message"] == "1 requests are open and 1 may; ask again later"
        other = one.post("/v1beta/models/fox:embedContent", PART)
        assert other.status_code == 503 and other.json()["error"]["status"] == "UNAVAILABLE"
        assert one.client.get("/health").status_code == 200
        go_on.set()
        assert first.result(10).status_code == 200
    assert again(one, ONE).status_code == 200


@pytest.mark.parametrize("path, body", [("/v1/embeddings", ONE), ("/v1beta/models/fox:embedContent", PART)])
def test_a_failure_inside_is_not_told_outside(
    path: str, body: Any, model: Embedder, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(model, ["fox"])

    def broken(batch: Any) -> Any:
        raise RuntimeError("the secret path /srv/model")

    monkeypatch.setattr(service.batcher, "embed", broken)
    one = serve(service)
    answer = one.post(path, body)
    assert answer.status_code == 500 and "its log says why" in answer.text and "secret" not in answer.text
    monkeypatch.undo()
    service.batcher.embed = service._embed
    assert one.post(path, body).status_code == 200, "the next request is answered"
