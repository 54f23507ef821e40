"""Building public sets: parts side by side, interrupted and gone on with, and files that are not as they should be."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from data_prep.public import build as building
from data_prep.public.build import build_public
from data_prep.public.spec import set_of
from tests.data_prep.public import published


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


def build(name: str, files: Path, **options):
    return build_public(replace(set_of(name), bytes={}), files, files.parent / "data", workers=1, **options)


def records(files: Path, name: str, side: str = "train"):
    return list(ShardReader(files.parent / "data" / name / set_of(name).task, side))


def test_several_processes_build_what_one_builds(files: Path) -> None:
    published.cc3m(files)
    one = build("cc3m", files)
    two = build_public(set_of("cc3m"), files, files.parent / "other", workers=2)
    assert one["tasks"] == two["tasks"] == {"image_caption": {"train": 4, "dev": 1, "heldout": 0}}
    for name in ("train-00000.tar", "train-00001.tar", "train.parquet", "train.json"):
        paths = [files.parent / place / "cc3m/image_caption" / name for place in ("data", "other")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    reader = ShardReader(files.parent / "data/cc3m/image_caption", "train")
    reader.verify()
    assert [record.key for record in reader] == list(reader.column("key"))


def test_an_interrupted_build_goes_on(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published.cc3m(files)
    real, read = building.write_part, []

    def part(spec, folder, one, place, limit):
        read.append(one.name)
        if len(read) == 2:
            raise KeyboardInterrupt
        real(spec, folder, one, place, limit)

    monkeypatch.setattr(building, "write_part", part)
    with pytest.raises(KeyboardInterrupt):
        build("cc3m", files)
    assert not (files.parent / "data/cc3m").exists()
    manifest = build("cc3m", files)
    assert read[0] not in read[2:] and len(read) == 4
    assert manifest["tasks"]["image_caption"]["train"] == 4
    build("cc3m", files)
    assert len(read) == 4  # up to date


def test_a_changed_file_is_read_again(files: Path) -> None:
    published.nli(files)
    build("nli", files)
    published.put_parquet(files / "triplet/dev-00000-of-00001.parquet", [
        {"anchor": "a", "positive": "b", "negative": "c"}, {"anchor": "d", "positive": "e", "negative": "f"}
    ])  # fmt: skip
    assert build("nli", files)["tasks"]["entailment"]["dev"] == 2


@pytest.mark.parametrize("code", ["pairs", "pictures", "split", "keys", "shard_writer", "shard_join", "estimate"])
def test_changed_code_reads_again(files: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    published.nli(files)
    before, real = build("nli", files), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + b"#" * (path.name == f"{code}.py"))
    assert build("nli", files)["fingerprint"] != before["fingerprint"]


def test_repeated_pairs_are_kept_once_and_on_the_side_that_is_evaluated(files: Path) -> None:
    published.nli(files)
    again = {"anchor": "test 0 sleeps.", "positive": "test 0 rests.", "negative": "no"}
    rows = [{"anchor": "x", "positive": "y", "negative": "z"}] * 2 + [again]
    (files / "triplet/train-00000-of-00001.parquet").rename(files / "triplet/train-00000-of-00002.parquet")
    published.put_parquet(files / "triplet/train-00001-of-00002.parquet", rows)
    manifest = build("nli", files)
    assert manifest["tasks"]["entailment"] == {"train": 4, "dev": 1, "heldout": 1}
    assert manifest["sources"]["nli"]["drops"] == {"exact duplicate of another row": 2}
    assert "test 0 sleeps." not in [record.queries[0].content.parts[0].text for record in records(files, "nli")]


def test_a_look_before_a_long_build(files: Path) -> None:
    published.cc3m(files)
    assert build("cc3m", files, limit=1)["tasks"]["image_caption"] == {"train": 2, "dev": 1, "heldout": 0}
    assert build("cc3m", files)["tasks"]["image_caption"]["train"] == 4


def bomb() -> bytes:
    """A PNG of 600 megapixels in a few hundred bytes: its header is sound, its pixels are never reached."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 30_000, 20_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


SVG = b'<!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg xmlns="http://www.w3.org/2000/svg"><text>&a;</text></svg>'


@pytest.mark.parametrize(
    "change, why",
    [
        ({"000000000.jpg": bomb()}, "picture over 40000000 pixels"),
        ({"000000000.jpg": SVG}, "not a readable picture"),
        ({"000000000.jpg": b""}, "empty media file"),
        ({"000000000.jpg": None}, "no media file"),
        ({"000000000.txt": b" \n"}, "empty text"),
        ({"000000000.txt": b"caf\xe9"}, "text is not UTF-8"),
        ({"000000000.json": b"{"}, "JSON is broken"),
        ({"000000000.json": b"[" * 200_000}, "JSON is broken"),
    ],
)
def test_a_row_that_cannot_be_used_is_counted(files: Path, change: dict, why: str) -> None:
    published.cc12m(files)
    path = files / "cc12m-train-0000.tar"
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    members = {name: data for name, data in {**members, **change}.items() if data is not None}
    published.put_tar(path, members)
    manifest = build("cc12m", files)
    assert manifest["tasks"]["image_caption"]["train"] == 2
    assert manifest["sources"]["cc12m"]["drops"] == {why: 1}


def assert_refused(name: str, files: Path, message: str) -> None:
    """The build ends with that message, and leaves the tier that was there as it was."""
    before = files.parent / "data" / name
    published.put(before / "manifest.json", '{"fingerprint": "old"}')
    with pytest.raises(DataError, match=message):
        build(name, files)
    assert [path.name for path in before.iterdir()] == ["manifest.json"]
    left = {path.name for path in (files.parent / "data").iterdir()} - {name}
    assert not [path for name in left for path in (files.parent / "data" / name).glob(".*")], "half-written parts"
    assert not any(name.endswith("-building") for name in left)


def escaping(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    return buffer.getvalue()


def linking() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("000000000.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data, message",
    [
        (escaping("../../outside.jpg"), "would lie outside its folder"),
        (escaping("/etc/outside.jpg"), "would lie outside its folder"),
        (linking(), "is a link or a device"),
        (b"no tar at all" * 100, "ends early or is broken"),
    ],
)
def test_a_hostile_or_broken_archive_ends_the_build(files: Path, data: bytes, message: str) -> None:
    published.cc3m(files)
    published.put(files / "cc3m-train-0001.tar", data)
    assert_refused("cc3m", files, rf"cc3m-train-0001\.tar.*{message}")


def test_a_half_downloaded_tar_ends_the_build(files: Path) -> None:
    published.cc3m(files)
    path = files / "cc3m-train-0001.tar"
    path.write_bytes(path.read_bytes()[:3000])
    assert_refused("cc3m", files, r"cc3m-train-0001\.tar: ends early or is broken")


def test_what_img2dataset_counted_must_be_there(files: Path) -> None:
    published.datacomp(files)
    published.put_json(files / "shards/00000001_stats.json", {"successes": 9})
    assert_refused("datacomp", files, r"00000001\.tar: holds 3 rows where img2dataset wrote 9")
    (files / "shards/00000001_stats.json").unlink()
    assert_refused("datacomp", files, r"00000001\.tar: has no 00000001_stats\.json as others have")


def test_keys_that_are_in_two_tars_name_both(files: Path) -> None:
    published.cc3m(files)
    published.web_tar(files / "cc3m-train-0002.tar", 1, 1)
    with tarfile.open(files / "cc3m-train-0002.tar") as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    members["000000001.txt"] = b"another caption"
    published.put_tar(files / "cc3m-train-0002.tar", members)
    assert_refused("cc3m", files, "is in .*train-00000.tar and .*train-00000.tar, and 1 keys .* two downloads")


def test_a_tar_that_holds_a_key_twice_is_refused(files: Path) -> None:
    published.put(files / "cc12m-train-0000.tar", b"")
    with tarfile.open(files / "cc12m-train-0000.tar", "w") as tar:
        for name in ("a.jpg", "b.jpg", "a.txt"):
            tar.addfile(tarfile.TarInfo(name))
    assert_refused("cc12m", files, "a comes twice")


def test_a_key_that_is_twice_in_one_file_names_the_file_and_the_row(files: Path) -> None:
    published.docci(files)
    path = files / "docci_descriptions.jsonlines"
    row = json.loads(path.read_text().splitlines()[0])
    published.put_lines(path, [row, {**row, "description": "Another."}])
    assert_refused(
        "docci", files, rf"^{path}: train_00000: record 'docci-train-00000-\w+' comes twice; .* is published, and `key`"
    )


@pytest.mark.parametrize("lost", ["train*", "train.json", "train.parquet", "train-00000.tar"])
def test_a_tier_that_lost_shards_is_built_again(files: Path, lost: str) -> None:
    published.nli(files)
    build("nli", files)
    for path in (files.parent / "data/nli/entailment").glob(lost):
        path.unlink()
    build("nli", files)
    assert len(records(files, "nli")) == 3


HALF = "half a smile \ud83d"  # which JSON can hold


@pytest.mark.parametrize("where", ["query_id", "query", "passage"])
def test_a_text_that_utf8_cannot_say_is_left_out(files: Path, where: str) -> None:
    published.nq(files)
    rows = []
    for number in range(2):
        says = {"query_id": str(number), "query": f"who {number}?", "passage": f"answer {number}"}
        says |= {where: HALF} if number else {}
        passages = [{"docid": str(number), "title": "t", "text": says.pop("passage")}]
        rows.append({**says, "answers": [], "positive_passages": passages, "negative_passages": []})
    published.put_lines(files / "nq-dev.jsonl.gz", rows)
    manifest = build("nq", files)
    assert manifest["tasks"]["question"] == {"train": 4, "dev": 1, "heldout": 0}
    assert manifest["sources"]["nq"]["drops"] == {"text is not UTF-8": 1}


def test_a_wrong_passage_that_utf8_cannot_say_is_no_negative(files: Path) -> None:
    published.nq(files)
    passages = [{"docid": str(n), "title": "t", "text": text} for n, text in enumerate((HALF, "wrong"))]
    row = {"query_id": "7", "query": "who?", "positive_passages": [{"docid": "9", "title": "t", "text": "x"}]}
    published.put_lines(files / "nq-dev.jsonl.gz", [{**row, "negative_passages": passages}])
    build("nq", files)
    (record,) = records(files, "nq", "dev")
    assert [content.parts[0].text for content in record.negatives] == ["t\nwrong"]


@pytest.mark.parametrize("name", ["\\ud83d.jpg", "a\\u0000.jpg"])
def test_a_medium_of_a_name_that_no_file_has_is_missing(files: Path, name: str) -> None:
    published.coco(files)
    path = files / "dataset_coco.json"
    path.write_text(path.read_text().replace("COCO_val2014_000000000103.jpg", name))
    manifest = build("coco", files, missing=0.25)
    assert manifest["sources"]["coco"]["drops"] == {"no media file": 1}


def test_annotations_that_lead_out_of_their_folder_are_refused(files: Path) -> None:
    published.coco(files)
    published.put(files.parent / "secret.jpg", published.picture(7))
    path = files / "dataset_coco.json"
    path.write_text(path.read_text().replace('"val2014"', '".."').replace("COCO_val2014_000000000103", "secret"))
    assert_refused("coco", files, r"dataset_coco\.json: row \d: '\.\./.*' lies outside")


@pytest.mark.parametrize(
    "name, file, data, message",
    [
        (
            "clotho",
            "clotho_captions_validation.csv",
            b"file_name,caption_1\nBees.wav",
            r"validation\.csv: line 2 has not",
        ),
        (
            "clotho",
            "clotho_captions_validation.csv",
            "naïve".encode("latin-1"),
            r"validation\.csv: byte \d+ is not utf-8",
        ),
        ("docci", "docci_descriptions.jsonlines", b'{"a": 1}\n{"b": ', r"jsonlines: line 2 is not JSON"),
        (
            "docci",
            "docci_descriptions.jsonlines",
            b'{"example_id": "x"}\n',
            "row 0: there is no field 'split'.*exam",
        ),
        ("docci", "docci_descriptions.jsonlines", b'{"a":' * 200_000, r"jsonlines: line 1 is not JSON \(maximum rec"),
        ("msr_vtt", "test_videodatainfo.json", b'{"videos": [', r"test_videodatainfo\.json: not JSON"),
        ("msr_vtt", "test_videodatainfo.json", b"[" * 200_000, r"videodatainfo\.json: not JSON \(maximum recursion"),
        ("msr_vtt", "test_videodatainfo.json", b'{"clips": []}', "there is no field 'videos'"),
        ("nq", "nq-dev.jsonl.gz", b"\x1f\x8b\x08\x00half", r"nq-dev\.jsonl\.gz: cannot be read"),
        ("nli", "triplet/dev-00000-of-00001.parquet", b"PAR1 half", "not a whole parquet file"),
        ("hotpotqa", "qrels/dev.tsv", b"query-id\tcorpus-id\tscore\nq1\td1\tyes\n", r"dev\.tsv: row 1 is no judgement"),
        ("hotpotqa", "corpus.jsonl", b'{"id": "d0"}\n', r"corpus\.jsonl: has no column '_id' but id"),
    ],
)
def test_files_that_are_not_as_published_are_named(
    files: Path, name: str, file: str, data: bytes, message: str
) -> None:
    published.SETS[name](files)
    published.put(files / file, data)
    assert_refused(name, files, message)


def test_a_file_that_changed_upstream_is_named(files: Path) -> None:
    published.docci(files)
    with pytest.raises(
        DataError, match=r"jsonlines: has \d+ bytes where DOCCI.* 11000214: it is cut short, or changed"
    ):
        build_public(set_of("docci"), files, files.parent / "data", workers=1)
    assert not (files.parent / "data").exists()


def test_what_is_missing_is_listed(files: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; put there:\n  dataset_coco.json"):
        build("coco", files)
    files.mkdir()
    with pytest.raises(DataError, match=r"has no dataset_coco\.json, as MS-COCO .* Put there:\n  dataset_coco"):
        build("coco", files)
    published.coco(files)
    for path in files.glob("*2014/*.jpg"):
        path.unlink()
    assert_refused(
        "coco", files, "4 of the 4 media files that MS-COCO .* names are missing or empty, as train2014/COCO"
    )
    with pytest.raises(DataError, match="coco: no row is left; left out were .'no media file': 4."):
        build("coco", files, missing=1)


def test_a_full_disk_leaves_finished_parts_and_nothing_half_written(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published.cc3m(files)
    real, written = ShardWriter.write, []

    def write(self, record):
        written.append(record.key)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "write", write)
        assert_refused("cc3m", files, "cannot be written .No space left on device.*; free space")
    manifest = build("cc3m", files)
    assert manifest["tasks"]["image_caption"] == {"train": 4, "dev": 1, "heldout": 0}
    assert json.loads((files.parent / "data/cc3m/manifest.json").read_text()) == manifest
