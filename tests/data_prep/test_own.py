from __future__ import annotations

import errno
import json
import os
import struct
import zlib
from pathlib import Path

import pytest

from commonspace.content import Text
from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from data_prep.own import build_own
from data_prep.split import SPLITS, split_of
from tests.media import noise, numbered_frames, picture_bytes, sound_bytes, video_bytes


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


def sides_of_media(folder: Path) -> dict[bytes, set[str]]:
    """{bytes of a medium: the sides it lies on}, those of documents too."""
    found: dict[bytes, set[str]] = {}
    for side in (path.stem for path in folder.glob("*.parquet")):
        for record in ShardReader(folder, side):
            for content in (record.queries[0].content, record.positives[0].content):
                for part in content.parts:
                    for inner in getattr(part, "parts", (part,)):
                        if not isinstance(inner, Text):
                            found.setdefault(inner.read_bytes(), set()).add(side)
    return found


def test_a_picture_lies_on_one_side_whatever_is_asked_about_it(tmp_path, pairs, png):
    rows = []
    for number in range(40):
        (tmp_path / f"media/{number}.png").write_bytes(png(f"rgb({number},9,9)"))
        picture = {"image": f"{number}.png"}
        rows += [
            {"query": [picture, f"question {k}?"], "positive": f"answer {k} of picture {number}"} for k in range(3)
        ]
        rows.append({"query": f"page {number}", "positive": {"document": [f"about {number}", picture]}})
    manifest = build_own(pairs(*rows), tmp_path / "data")
    found = sides_of_media(tmp_path / "data/own/own")
    assert len(found) == 40 and all(len(sides) == 1 for sides in found.values())
    assert set.union(*found.values()) == set(SPLITS) and manifest["merged_concepts"]["groups"] == 40


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


def test_media_that_are_not_whole_are_named_by_line(tmp_path, pairs):
    photo = picture_bytes(numbered_frames(1)[0], "JPEG")
    clip, sound = video_bytes(numbered_frames(9)), sound_bytes(noise(0.5))
    page, drawing = (
        b"<!DOCTYPE html><html>404</html>",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    )
    media = {"cut.jpg": photo[: len(photo) // 2], "page.png": page, "page.wav": page, "cut.wav": sound[:900]}
    media |= {"page.mp4": page, "cut.mp4": clip[: len(clip) // 2], "d.svg": drawing, "whole.jpg": photo}
    media |= {"whole.wav": sound, "whole.mp4": clip, "p.pdf": b"%PDF-1.4 judged when it is embedded"}
    for name, data in media.items():
        (tmp_path / "media" / name).write_bytes(data)
    kinds = {".wav": "audio", ".mp4": "video"}
    rows = [{"query": {kinds.get(name[-4:], "image"): name}, "positive": f"p {name}"} for name in media]
    rows[-1] = {"query": {"document": [{"pdf": "p.pdf"}]}, "positive": "p"}
    with pytest.raises(DataError, match="6 rows cannot be used") as caught:
        build_own(pairs(*rows), tmp_path / "data")
    lines = str(caught.value).splitlines()[1:]
    for number, (line, name) in enumerate(zip(lines, media, strict=False), start=1):
        assert line.startswith(f"line {number}: {name}: ") and line.endswith("replace it or leave it out")
    assert sum(build_own(pairs(*rows[6:]), tmp_path / "data")["tasks"]["own"].values()) == 5


@pytest.mark.parametrize(
    "row, reason",
    [
        (r'{"query": "half \ud83d", "positive": "p"}', "holds half of a surrogate pair at character 5"),
        (r'{"query": "q", "positive": {"document": ["half \ud83d"]}}', "half of a surrogate pair"),
        (r'{"query": "q", "positive": "p", "concept": "half \ud83d"}', "half of a surrogate pair"),
        (r'{"query": "q", "positive": "p", "key": "half \ud83d"}', "half of a surrogate pair"),
        (r'{"query": "q", "positive": {"image": "\udcff.png"}}', "half of a surrogate pair"),
        ('{"query": "q", "positive": ' + "[" * 100_000, "its JSON is nested too deeply"),
        ('{"query": "q", "positive": ' + '{"document": [' * 400 + "]}" * 400 + "}", ""),
    ],
)
def test_what_json_can_say_and_no_row_can_hold_is_named_by_line(tmp_path, pairs, row, reason):
    with pytest.raises(DataError, match=rf"pairs.jsonl: 1 rows cannot be used\nline 2: .*{reason}"):
        build_own(pairs({"query": "q", "positive": "fine"}, row), tmp_path / "data")


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


def test_a_synthetic_row_is_left_out_where_a_row_with_its_picture_does_not_train(tmp_path, pairs, png):
    rows, made = [], []
    for number in range(40):
        (tmp_path / f"media/{number}.png").write_bytes(png(f"rgb({number},9,9)"))
        picture = {"image": f"{number}.png"}
        rows.append({"query": picture, "positive": f"Thing {number}"})
        made.append({"query": [picture, "what is it?"], "positive": f"It is {number}.", "synthetic": "by hand"})
    build_own(pairs(*rows, *made), tmp_path / "data")
    assert all(len(sides) == 1 for sides in sides_of_media(tmp_path / "data/own/own").values())
    kept = [record for record in ShardReader(tmp_path / "data/own/own", "train") if "synthetic" in record.extra]
    assert len(kept) == sum(split_of(f"thing {number}") == "train" for number in range(40)) < 40
