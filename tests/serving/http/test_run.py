"""`commonspace serve`: what a config says is what is served, and what is unsafe is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from commonspace import Embedder
from commonspace.cli import main as cli
from commonspace.configuration import compose
from commonspace.errors import ConfigError
from commonspace.serving.http.run import main, make_service, names_of, token_of
from tests.models.tiny import tiny_embedder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served") / "fox"
    tiny_embedder().save(place)
    return place


def test_options_reach_the_service(folder: Path) -> None:
    options = ["names=[hen]", "on_limit=truncate", "batch_tokens=77", "wait_milliseconds=20", "limits.contents=3"]
    options += ["limits.connections=7"]
    config = compose("serve", [f"embedder={folder}", *options, "limits.body_megabytes=0.5", "limits.media_megabytes=1"])
    service = make_service(config)
    assert service.names == ("hen",) and service.model.processor.on_limit == "truncate"
    assert (service.limits.contents, service.limits.body_bytes, service.limits.media_bytes) == (3, 2**19, 2**20)
    assert service.limits.connections == 7
    assert (service.batcher.batch_tokens, service.batcher.wait_seconds) == (77, 0.02)


def test_names(folder: Path) -> None:
    assert names_of(folder, []) == ["fox", "gemini-fox"] and names_of(folder, ["a"]) == ["a"]


def test_other_machines_need_a_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="other machines could ask"):
        main(compose("serve", [f"embedder={folder}", "host=0.0.0.0"]))
    monkeypatch.setenv("FOX_TOKEN", "  ")
    with pytest.raises(ConfigError, match="FOX_TOKEN is empty"):
        main(compose("serve", [f"embedder={folder}", "host=0.0.0.0", "token_variable=FOX_TOKEN"]))
    monkeypatch.setenv("FOX_TOKEN", "secret ")
    assert token_of("FOX_TOKEN") == "secret" and token_of(None) is None


@pytest.mark.parametrize("word", ["port=0", "port=70000", "limits.contents=0", "wait_milliseconds=-1", "on_limit=cut"])
def test_options_out_of_range_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=word.partition("=")[0]):
        compose("serve", ["embedder=models/x", word])


def test_the_command_serves_what_its_config_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for the socket: that is uvicorn's, and other tests have it."""
    run: dict[str, Any] = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **options: run.update(options, app=app))
    monkeypatch.setenv("FOX_TOKEN", "secret")
    command = ["serve", str(folder), "port=8123", "token_variable=FOX_TOKEN"]
    assert cli([*command, f"paths.runs={folder.parent}"]) == 0
    assert "fox, gemini-fox at http://127.0.0.1:8123/v1" in capsys.readouterr().out
    assert (run["host"], run["port"]) == ("127.0.0.1", 8123)
    with TestClient(run["app"]) as client:
        body = {"model": "fox", "input": "a red fox"}
        assert client.post("/v1/embeddings", json=body).status_code == 401
        answer = client.post("/v1/embeddings", json=body, headers={"Authorization": "Bearer secret"}).json()
    expected_E = Embedder.load(folder).embed(["a red fox"])[0]
    np.testing.assert_allclose(answer["data"][0]["embedding"], expected_E, atol=1e-5)
