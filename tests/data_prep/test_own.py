from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from pathlib import Path

import pytest

from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from data_prep.own import build_own
from data_prep.split import SPLITS, split_of


@pytest.fixture
def pairs(tmp_path: Path, png):
    """Writes rows, and a picture `fox.png` beside them."""
    (tmp_path / "media").mkdir()
    (tmp_path / "media/fox.png").write_bytes(png())

    def write(*rows) -> Path:
        path = tmp_path / "media/pairs.jsonl"
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        return path

    return write


def records(folder: Path):
    return {record.extra["line"]: record for path in folder.glob("*.json") for record in ShardReader(folder, path.stem)}


def test_every_kind_of_row(tmp_path, pairs):
    path = pairs(
        {"query": "a fox", "positive": {"image": "fox.png"}},
        {"query": [{"image": "fox.png"}, "French"], "positive": "un renard", "language": "fr", "concept": "Fox"},
        "",
        {"query": "page", "positive": {"document": ["above", {"image": "fox.png"}]}, "negatives": ["no", ["not this"]]},
        {"query": "a question", "positive": "yes", "key": "first question"},
    )
    manifest = build_own(path, tmp_path / "data")
    assert {task: sum(tally.values()) for task, tally in manifest["tasks"].items()} == {"own": 4}
    own = records(tmp_path / "data/own/own")
    assert own[1].concept == "fox" and own[2].concept == "fox"  # the file's name, and the one given
    assert own[4].concept == "above" and len(own[4].negatives) == 2
    assert own[2].positives[0].language == "fr"
    assert own[1].positives[0].content.parts[0].source == (tmp_path / "media/fox.png").read_bytes()
    assert own[5].key.startswith("own-first-question-") and {record.task for record in own.values()} == {"own"}


@pytest.mark.parametrize("break_", ["\u2028", "\u2029", "\x85", "\r"])
def test_a_text_may_hold_what_some_take_for_the_end_of_a_line(tmp_path, pairs, break_):
    row = {"query": f"one{break_}two", "positive": "three"}
    build_own(
        pairs(json.dumps(row, ensure_ascii=False), json.dumps({"query": "four", "positive": "five"}) + "\r"), tmp_path
    )
    assert f"one{break_}two" in {one.queries[0].content.parts[0].text for one in records(tmp_path / "own/own").values()}


def test_rows_are_split_by_concept(tmp_path, pairs):
    rows = [{"query": f"q {n} {k}", "positive": f"Thing {n}"} for n in range(40) for k in range(2)]
    build_own(pairs(*rows), tmp_path / "data", name="mine")
    for side in SPLITS:
        concepts = list(ShardReader(tmp_path / "data/mine/own", side).column("concept"))
        assert concepts and all(split_of(name) == side for name in concepts)


def test_bad_rows_are_named_by_line(tmp_path, pairs):
    (tmp_path / "media/empty.png").write_bytes(b"")
    path = pairs(
        {"query": "fine", "positive": "fine"},
        "{not json",
        {"query": "no positive"},
        {"query": "q", "positive": {"image": "missing.png"}},
        {"query": "q", "positive": {"image": "empty.png"}},
        {"query": "q", "positive": {"picture": "fox.png"}},
        {"query": "q", "positive": "p", "positve": "typo"},
        {"query": "  ", "positive": "p"},
        {"query": "q", "positive": "p", "task": "faq"},
        {"query": "q", "positive": "p", "language": 3},
        {"query": "q", "positive": "p", "negatives": "no list"},
        ["no", "object"],
    )
    with pytest.raises(DataError) as caught:
        build_own(path, tmp_path / "data")
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("11 rows cannot be used")
    expected = ["", '"query" and "positive"', "missing.png: no such file", "empty.png: the file is empty", "is no part",
                "unknown field positve", "is blank", "unknown field task", '"language" is 3', "not a list"]  # fmt: skip
    for number, (line, word) in enumerate(zip(lines[1:], expected, strict=False), start=2):
        assert line.startswith(f"line {number}: ") and word in line
    assert lines[-1] == "... and 1 more"
    assert not (tmp_path / "data").exists()


def test_a_key_that_comes_twice_names_both_lines(tmp_path, pairs):
    path = pairs({"query": "a", "positive": "b", "key": "k"}, {"query": "c", "positive": "d", "key": "k"})
    with pytest.raises(DataError, match="line 2: its key is that of line 1"):
        build_own(path, tmp_path / "data")


@pytest.mark.parametrize("content", [None, "", b"\xff\xfe\x00"])
def test_a_file_without_rows_is_refused(tmp_path, content):
    path = tmp_path / "pairs.jsonl"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"pairs\.jsonl: (holds no row|cannot be read)"):
        build_own(path, tmp_path / "data")


def test_building_again_replaces_the_rows(tmp_path, pairs):
    build_own(pairs({"query": "a", "positive": "b"}, {"query": "c", "positive": "d"}), tmp_path / "data")
    build_own(pairs({"query": "a", "positive": "b"}), tmp_path / "data")
    assert [path.name for path in (tmp_path / "data/own").iterdir() if path.is_dir()] == ["own"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["own"]  # no staging left behind


def test_a_picture_of_600_megapixels_is_refused_by_its_header(tmp_path, pairs):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 20_000, 8, 2, 0, 0, 0))
    (tmp_path / "media/bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9))))
    path = pairs(
        {"query": "q", "positive": "p"}, {"query": "q", "positive": {"document": ["x", {"image": "bomb.png"}]}}
    )
    with pytest.raises(DataError, match="line 2: .*bomb.png: picture over 50000000 pixels, as in a decompression bomb"):
        build_own(path, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_disk_that_is_full_leaves_the_tier_that_was_there(tmp_path, pairs, monkeypatch):
    build_own(pairs({"query": "a", "positive": "b"}), tmp_path / "data")
    before = (tmp_path / "data/own/manifest.json").read_bytes()

    def full(self, record):
        raise self._disk_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    monkeypatch.setattr(ShardWriter, "write", full)
    with pytest.raises(DataError, match="own/(train|dev|heldout): cannot be written .No space left"):
        build_own(pairs({"query": "c", "positive": "d"}), tmp_path / "data")
    assert (tmp_path / "data/own/manifest.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["own"]


def test_synthetic_rows_train_alone_and_only_beside_rows_that_train(tmp_path, pairs):
    rows = [{"query": f"q {n}", "positive": f"Thing {n}"} for n in range(40)]
    made = [
        {"query": f"made {n}", "positive": f"Thing {n}", "concept": f"thing {n}", "synthetic": "by hand"}
        for n in range(60)
    ]
    manifest = build_own(pairs(*rows, *made), tmp_path / "data")
    folder = tmp_path / "data/own/own"
    sides = {side: list(ShardReader(folder, side)) for side in SPLITS}
    assert not any("synthetic" in record.extra for side in ("dev", "heldout") for record in sides[side])
    kept = {record.concept for record in sides["train"] if record.extra.get("synthetic") == "by hand"}
    training = {f"thing {n}" for n in range(40) if split_of(f"thing {n}") == "train"}
    assert kept == training | {f"thing {n}" for n in range(40, 60)} and len(training) < 40
    left_out = manifest["sources"]["own"]["drops"]["made of rows of which one is on dev or held out"]
    assert left_out == 40 - len(training)
