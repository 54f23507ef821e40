"""`commonspace embed`: the order of its rows, what it leaves, what an interruption costs, what is said of failures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from commonspace.cli import main as cli
from commonspace.content import Content
from commonspace.embed import Embedding
from commonspace.errors import DataError
from commonspace.models.embedder import Embedder
from tests.media import picture_bytes, sound_bytes, tone
from tests.models.tiny import tiny_embedder

GOOD = ["a fox", "a wolf", "a red bird", "the snow", "a blue fox"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A small model, a picture, and a file of contents."""
    tiny_embedder().save(tmp_path / "model")
    (tmp_path / "p.png").write_bytes(picture_bytes(np.full((8, 8, 3), 90, np.uint8)))
    (tmp_path / "in.jsonl").write_text('"a fox"\n[{"image": "p.png"}, "a plate"]\n"a wolf"\n')
    return tmp_path


def embed(place: Path, *words: str) -> int:
    try:
        return cli(["embed", f"paths.runs={place}/runs", str(place / "model"), *words])
    except SystemExit as ended:  # how hydra's work ends with an error's status
        return int(ended.code)


def texts(place: Path, values: list[object]) -> str:
    (place / "texts.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(place / "texts.jsonl")


def test_vectors_come_in_the_order_of_the_lines(place: Path) -> None:
    command = [f"embedder={place}/model", f"input={place}/in.jsonl", f"output={place}/o/v.npy", f"paths.runs={place}"]
    assert cli(["embed", *command]) == 0
    vectors, model = np.load(place / "o/v.npy"), Embedder.load(place / "model")
    assert vectors.dtype == np.float32 and vectors.shape == (3, model.embedding_size)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[2], model.embed([Content("a wolf")])[0], atol=1e-5)
    assert [path.name for path in (place / "o").iterdir()] == ["v.npy"]


def test_every_form_holds_the_same_vectors(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = texts(place, ["a fox", {"key": "bird", "content": "a red bird"}, "a wolf"])
    for suffix in ("npy", "parquet", "safetensors"):
        assert embed(place, "--jsonl", given, "-o", f"{place}/v.{suffix}", "dim=8", "chunk=2") == 0
        assert f"v.{suffix}: 3 vectors of 8" in capsys.readouterr().out
    expected = Embedder.load(place / "model").embed(["a fox", "a red bird", "a wolf"], dim=8)
    np.testing.assert_allclose(np.load(place / "v.npy"), expected, atol=1e-6)
    table = pq.read_table(place / "v.parquet")
    assert table["key"].to_pylist() == ["1", "bird", "3"]
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), np.load(place / "v.npy"))
    with safe_open(place / "v.safetensors", framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("vectors"), np.load(place / "v.npy"))
        assert file.get_tensor("lines").tolist() == [1, 2, 3]
        assert json.loads(file.metadata()["keys"]) == ["1", "bird", "3"]
        about = json.loads(file.metadata()["commonspace"])
    assert about == json.loads(table.schema.metadata[b"commonspace"]) and about["dim"] == 8


def test_files_are_embedded_under_their_paths(place: Path) -> None:
    (place / "it's, page=1.md").write_text("a red fox")
    (place / "s.wav").write_bytes(sound_bytes(tone(0.2)))
    words = [str(place / "p.png"), str(place / "s.wav"), str(place / "page.md")]
    (place / "it's, page=1.md").rename(place / "page.md")
    assert embed(place, *words, "-o", str(place / "v.parquet")) == 0
    table = pq.read_table(place / "v.parquet")
    assert table["key"].to_pylist() == words
    expected = Embedder.load(place / "model").embed(["a red fox"])[0]
    np.testing.assert_allclose(table["vector"].to_pylist()[2], expected, atol=1e-5)


def test_a_call_that_was_cut_short_is_gone_on_with(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[list[str]] = []
    whole, stops = Embedding.chunk, [3]

    def chunk(self, entries):
        if len(made) == stops[0]:
            raise KeyboardInterrupt
        made.append([entry.key for entry in entries])
        return whole(self, entries)

    monkeypatch.setattr(Embedding, "chunk", chunk)
    options = ("--jsonl", texts(place, GOOD * 1 + ["a", "the"]), "-o", f"{place}/v.npy", "chunk=2")
    with pytest.raises(KeyboardInterrupt):
        embed(place, *options)
    assert not (place / "v.npy").exists() and len(made) == 3
    stops[0] = 100
    assert embed(place, *options) == 0
    assert made == [["1", "2"], ["3", "4"], ["5", "6"], ["7"]], "finished chunks are not made again"
    assert "6 contents were embedded by an earlier call" in capsys.readouterr().out
    assert not (place / ".v.npy.partial").exists()
    resumed = (place / "v.npy").read_bytes()
    assert embed(place, *options) == 0
    assert (place / "v.npy").read_bytes() == resumed and len(made) == 8, "an uninterrupted call gives the same file"


@pytest.mark.parametrize("change", ["line", "option", "weights", "media"])
def test_chunks_of_another_job_are_not_taken(place: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    made: list[list[str]] = []
    whole = Embedding.chunk
    monkeypatch.setattr(Embedding, "chunk", lambda self, part: made.append([e.key for e in part]) or whole(self, part))
    bad = {"image": "absent.png"}
    first, more = ["a fox", "a bird", {"image": "p.png"}, "the snow", bad], []
    assert embed(place, "--jsonl", texts(place, first), "-o", f"{place}/v.npy", "chunk=2") == 1
    assert [len(part) for part in made] == [2, 2, 1]
    if change == "line":
        first[1] = "a wolf"
    elif change == "option":
        more = ["dim=8"]
    elif change == "weights":
        tiny_embedder(seed=1).save(place / "model")
    else:
        (place / "p.png").write_bytes(picture_bytes(np.full((9, 9, 3), 200, np.uint8)))
    made.clear()
    given = texts(place, [*first[:-1], "a"])
    assert embed(place, "--jsonl", given, "-o", f"{place}/v.npy", "chunk=2", *more) == 0
    again = {"line": [["1", "2"], ["5"]], "media": [["3", "4"], ["5"]]}
    assert made == again.get(change, [["1", "2"], ["3", "4"], ["5"]])


@pytest.mark.parametrize("name", ["page.md", "p.png"])
def test_a_file_that_was_changed_is_embedded_again(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (place / "page.md").write_text("a red fox")
    words = [str(place / "page.md"), str(place / "p.png"), str(place / "absent.png"), "-o", f"{place}/v.npy", "chunk=1"]
    assert embed(place, *words) == 1
    changed = {"page.md": b"a blue bird", "p.png": picture_bytes(np.full((9, 9, 3), 200, np.uint8))}
    (place / name).write_bytes(changed[name])
    made: list[str] = []
    whole = Embedding.chunk
    monkeypatch.setattr(Embedding, "chunk", lambda self, part: made.append(part[0].key) or whole(self, part))
    assert embed(place, *words, "on_error=skip") == 0
    assert made == [str(place / name), str(place / "absent.png")]
    expected = Embedder.load(place / "model").embed([(place / "page.md").read_text()])[0]
    np.testing.assert_allclose(np.load(place / "v.npy")[0], expected, atol=1e-5)


def test_a_bad_content_stops_the_work_with_its_line_or_is_listed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = ["a fox", {"image": "absent.png"}, 3, {"key": "last", "content": "a wolf"}]
    words = ("--jsonl", texts(place, values), "chunk=2")
    assert embed(place, *words, "-o", f"{place}/v.npy") == 1
    assert "texts.jsonl, line 3: 3 is no part" in capsys.readouterr().err, "what is no content, before the model loads"
    words = ("--jsonl", texts(place, [*values[:2], "a", *values[3:]]), "chunk=2")
    assert embed(place, *words, "-o", f"{place}/v.npy") == 1
    assert "texts.jsonl, line 2: absent.png: cannot be read" in capsys.readouterr().err
    assert not (place / "v.npy").exists()
    words = ("--jsonl", texts(place, values), "chunk=2", "on_error=skip")
    for suffix in ("npy", "parquet", "safetensors"):
        assert embed(place, *words, "-o", f"{place}/v.{suffix}") == 0
        assert "2 vectors of 32; 2 of 4 failed" in capsys.readouterr().out
        listed = [json.loads(line) for line in (place / f"v.{suffix}.failures.jsonl").read_text().splitlines()]
        assert [(one["line"], one["key"]) for one in listed] == [(2, "2"), (3, "3")]
        assert "absent.png" in listed[0]["error"]
    expected = Embedder.load(place / "model").embed(["a fox", "a wolf"])
    rows = np.load(place / "v.npy")
    assert np.isnan(rows[1:3]).all()
    np.testing.assert_allclose(rows[[0, 3]], expected, atol=1e-5)
    table = pq.read_table(place / "v.parquet")
    assert table["key"].to_pylist() == ["1", "last"]
    np.testing.assert_allclose(np.array(table["vector"].to_pylist()), expected, atol=1e-5)
    with safe_open(place / "v.safetensors", framework="numpy") as file:
        assert file.get_tensor("lines").tolist() == [1, 4]
    assert embed(place, "--jsonl", texts(place, GOOD), "-o", f"{place}/v.npy") == 0
    assert not (place / "v.npy.failures.jsonl").exists(), "of an earlier call"


def test_what_a_stopped_call_made_serves_one_that_skips(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--jsonl", texts(place, ["a fox", "a bird", {"image": "absent.png"}]), "-o", f"{place}/v.npy", "chunk=1")
    assert embed(place, *words) == 1
    made: list[str] = []
    whole = Embedding.chunk
    monkeypatch.setattr(Embedding, "chunk", lambda self, part: made.append(part[0].key) or whole(self, part))
    assert embed(place, *words, "on_error=skip") == 0 and made == ["3"]


def test_what_is_too_long_is_refused_or_cut_and_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = " ".join(["fox", "bird"] * 100)
    words = ("--jsonl", texts(place, ["a fox", {"key": "long", "content": long}, {"image": "absent.png"}]), "chunk=1")
    assert embed(place, *words, "-o", f"{place}/v.npy") == 1
    assert "line 2: text 'fox bird" in (told := capsys.readouterr().err) and "or use on_limit=truncate" in told
    assert embed(place, *words, "-o", f"{place}/v.npy", "on_limit=truncate") == 1, "stopped after the cut"
    assert embed(place, *words, "-o", f"{place}/v.npy", "on_limit=truncate", "on_error=skip") == 0
    said = capsys.readouterr().out
    assert (
        "2 contents were embedded by an earlier call" in said and "v.npy.failures.jsonl; 1 not embedded whole" in said
    )
    (listed,) = map(json.loads, (place / "v.npy.truncated.jsonl").read_text().splitlines())
    assert (listed["line"], listed["key"]) == (2, "long") and "cut from 202 to 64 tokens" in listed["truncated"]
    expected = Embedder.load(place / "model", on_limit="truncate").embed(["a fox", long])
    np.testing.assert_allclose(np.load(place / "v.npy")[:2], expected, atol=1e-5)
    assert embed(place, "--jsonl", texts(place, GOOD), "-o", f"{place}/v.npy") == 0
    assert not (place / "v.npy.truncated.jsonl").exists(), "of an earlier call"
    assert embed(place, *words, "-o", f"{place}/v.npy", "on_limit=cut") == 1
    assert "on_limit: 'cut' is none of error, truncate" in capsys.readouterr().err


def test_nothing_to_write_is_an_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed(place, str(place / "absent.png"), "-o", f"{place}/v.npy", "on_error=skip") == 1
    assert "none of 1 contents has a vector" in capsys.readouterr().err and not (place / "v.npy").exists()


def test_a_model_without_the_tower_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_embedder(towers=("audio",)).save(place / "model")
    assert embed(place, "--jsonl", f"{place}/in.jsonl", "-o", f"{place}/v.npy") == 1
    assert "in.jsonl, line 2: " in (told := capsys.readouterr().err) and "no image tower" in told


@pytest.mark.parametrize(
    "words, message",
    [
        (["a.png", "-o", "v.txt"], "output: v.txt must end with"),
        (["-o", "v.npy"], "input: give JSON lines"),
        (["a.png", "--jsonl", "b.jsonl", "-o", "v.npy"], "input: give JSON lines"),
        (["a.png", "-o", "v.npy", "on_error=warn"], "on_error: 'warn' is none of stop, skip"),
        (["a.png", "-o", "v.npy", "chunk=0"], "chunk: 0 is outside"),
        (["a.png", "-o"], "-o: needs a file"),
    ],
)
def test_what_is_refused_before_anything_loads(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert embed(place, *words) == 1
    assert message in capsys.readouterr().err


def test_a_damaged_chunk_is_made_again(place: Path) -> None:
    words = ("--jsonl", texts(place, ["a fox", {"image": "absent.png"}]), "-o", f"{place}/v.npy", "chunk=1")
    assert embed(place, *words) == 1
    (chunk,) = (place / ".v.npy.partial").iterdir()
    chunk.write_bytes(chunk.read_bytes()[:20])
    assert embed(place, *words, "on_error=skip") == 0
    assert np.isfinite(np.load(place / "v.npy")[0]).all()


def test_an_output_that_cannot_be_written_is_named(place: Path) -> None:
    from commonspace.serving.chunks import Chunk, KeptChunks
    from commonspace.serving.entries import read_lines

    (place / "file").write_text("no folder")
    entries = read_lines(place / "in.jsonl")
    with pytest.raises(DataError, match="cannot be written"):
        KeptChunks(place / "file" / "v.npy", "job").put(0, entries, Chunk(np.zeros((3, 2), np.float32)))


def test_precision_is_as_asked_and_part_of_what_is_kept(place: Path) -> None:
    given = texts(place, GOOD)
    for precision in ("32-true", "bf16-mixed"):
        assert embed(place, "--jsonl", given, "-o", f"{place}/{precision}.parquet", f"precision={precision}") == 0
        about = json.loads(pq.read_schema(place / f"{precision}.parquet").metadata[b"commonspace"])
        assert about["precision"] == precision
    exact, rounded = (
        np.array(pq.read_table(place / f"{precision}.parquet")["vector"].to_pylist(), np.float32)
        for precision in ("32-true", "bf16-mixed")
    )
    assert 1e-7 < np.abs(exact - rounded).max() < 5e-2
    assert embed(place, "--jsonl", given, "-o", f"{place}/v.npy", "precision=16-mixed") == 1
