"""From files to answers by the commands alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commonspace.cli import main as cli
from commonspace.content import Content, Image, Text
from commonspace.errors import ContentError
from commonspace.models.embedder import Embedder
from commonspace.serving.search import query_content
from tests.media import picture_bytes
from tests.models.tiny import tiny_embedder


def run(place: Path, *words: str) -> int:
    try:
        return cli([words[0], f"paths.runs={place}/runs", *words[1:]])
    except SystemExit as ended:  # how hydra's work ends with an error's status
        return int(ended.code)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model, three pictures and two texts, their vectors of size 16 and an index of them."""
    tiny_embedder().save(tmp_path / "model")
    rng = np.random.default_rng(0)
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(picture_bytes(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)))
    (tmp_path / "fox.md").write_text("a red fox in the snow")
    (tmp_path / "bird.md").write_text("a blue bird")
    files = sorted(str(path) for path in tmp_path.iterdir() if path.is_file())
    assert run(tmp_path, "embed", f"{tmp_path}/model", *files, "-o", f"{tmp_path}/v.parquet", "dim=16") == 0
    assert run(tmp_path, "index", f"{tmp_path}/v.parquet", "-o", f"{tmp_path}/index") == 0
    return tmp_path


def test_a_text_and_a_file_find_themselves(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(place, "search", f"{place}/model", f"{place}/index", "a blue bird", f"{place}/1.png", "k=2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a blue bird" and lines[1] == f"1.0000\t{place}/bird.md"
    assert lines[3] == f"{place}/1.png" and lines[4] == f"1.0000\t{place}/1.png" and len(lines) == 6


def test_a_query_that_is_too_long_is_refused_or_cut_and_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", f"{place}/model", f"{place}/index", " ".join(["a blue bird"] * 60), "k=1"]
    assert run(place, *words) == 1
    assert "or use on_limit=truncate" in capsys.readouterr().err
    assert run(place, *words, "on_limit=truncate") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 and "cut from 182 to 64 tokens" in err


def test_a_task_puts_its_prefix_before_the_query(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    words = ["search", f"{place}/model", f"{place}/index", "a blue bird", "k=5", "task=search result", "exact=true"]
    assert run(place, *words) == 0
    scores = dict(line.split("\t")[::-1] for line in capsys.readouterr().out.splitlines()[1:])
    model = Embedder.load(place / "model")
    query = model.embed(["a blue bird"], dim=16, task="search result", role="query")[0]
    expected = query @ model.embed(["a blue bird"], dim=16)[0]
    assert float(scores[f"{place}/bird.md"]) == pytest.approx(expected, abs=1e-4) and expected < 0.999


def test_another_models_index_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_embedder(seed=1).save(place / "other")
    assert run(place, "search", f"{place}/other", f"{place}/index", "a bird") == 1
    assert "made by another model" in (told := capsys.readouterr().err) and "embed and index again" in told


def test_vectors_wider_than_the_models_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.serving.test_index import write

    write(place / "wide.parquet", np.eye(64))
    assert run(place, "index", f"{place}/wide.parquet", "-o", f"{place}/wide") == 0
    assert run(place, "search", f"{place}/model", f"{place}/wide", "a bird") == 1
    assert "has vectors of 64 and the model gives 32" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "queries: give at least one"),
        (["a bird", "role=query"], "role: has no effect without task"),
        (["a bird", "k=0"], "k: 0 is outside"),
        (["absent.png"], "absent.png: there is no such file"),
    ],
)
def test_what_is_refused(place: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert run(place, "search", f"{place}/model", f"{place}/index", *words) == 1
    assert message in capsys.readouterr().err


def test_a_query_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "fox.md").write_text("a red fox")
    assert query_content(str(tmp_path / "fox.md")) == Content("a red fox")
    (tmp_path / "fox.png").write_bytes(b"")
    assert isinstance(query_content(str(tmp_path / "fox.png")).parts[0], Image)
    for text in ("a red fox", "how to open fox.png", "x" * 5000):
        assert query_content(text).parts == (Text(text),)
    with pytest.raises(ContentError, match="a query is empty"):
        query_content(" ")
