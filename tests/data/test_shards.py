"""Shards: what was written is read back by position, and every kind of damage names the tar and the key."""

from __future__ import annotations

import json
import pickle
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from commonspace.content import Audio, Content, Document, Image, Pdf, Video
from commonspace.data import shard_writer
from commonspace.data.estimate import estimate_tokens, file_ending
from commonspace.data.sample import Record, Variant
from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError, StorageError
from tests.media import pdf_bytes, pdf_page


def told(content: Content) -> list:
    return content.to_json(lambda part: part.read_bytes().hex())


@pytest.fixture
def reader(make_shards, make_record) -> ShardReader:
    return make_shards((make_record(n) for n in range(40)), max_bytes=20_000)


def test_records_come_back_whole_and_in_any_order(tmp_path):
    picture, sound = b"\x89PNG one", b"OggS two"
    (tmp_path / "clip.webm").write_bytes(b"\x1aE\xdf\xa3 three")
    record = Record(
        key="a-1:x",
        task="mixed",
        source="made",
        concept="a fox",
        queries=(
            Variant(Content("a", Image(picture), "b", Audio(sound), Video(tmp_path / "clip.webm", sound=False)), "en"),
            Variant(Content(Document("title", Image(picture), "\u0442\u0435\u043a\u0441\u0442")), "ru"),
        ),
        positives=(Variant(Content("fox")),),
        negatives=(Content("wolf"), Content(Image(b"\xff\xd8\xff four"))),
        extra={"page": 3, "tags": ["x"]},
    )
    with ShardWriter(tmp_path / "mixed", "mixed", "train", {"made": "CC0"}) as writer:
        writer.write(record)
    reader = ShardReader(tmp_path / "mixed", "train")
    back = reader.read(0)
    assert [told(v.content) for v in back.queries] == [told(v.content) for v in record.queries]
    assert [told(content) for content in back.negatives] == [told(content) for content in record.negatives]
    assert [v.language for v in back.queries] == ["en", "ru"] and back.extra == record.extra
    assert (back.key, back.concept, reader.source(0)) == ("a-1:x", "a fox", "mixed/train-00000.tar:a-1:x")
    image = back.queries[0].content.parts[1]
    assert image.label == "train-00000.tar:a-1:x.0.png"
    assert back.queries[0].content.digest() == record.queries[0].content.digest()
    with tarfile.open(tmp_path / "mixed" / "train-00000.tar") as tar:  # any webdataset reader takes these names
        names = ["a-1:x.json", "a-1:x.0.png", "a-1:x.1.ogg", "a-1:x.2.webm", "a-1:x.3.jpg"]
        assert tar.getnames() == names  # equal media are stored once


@pytest.mark.parametrize("text", [None, "before", "after"])
def test_a_pdf_comes_back_as_it_was(tmp_path, text):
    pdf = pdf_bytes([pdf_page("w4"), b""])
    (tmp_path / "manual.pdf").write_bytes(pdf)
    content = Content("a", Document("b", Pdf(tmp_path / "manual.pdf", text=text)))
    record = Record("k", "mixed", "made", "a manual", (Variant(content),), (Variant(Content(Document(Pdf(pdf)))),))
    with ShardWriter(tmp_path / "mixed", "mixed", "train", {"made": "CC0"}) as writer:
        writer.write(record)
    back = ShardReader(tmp_path / "mixed", "train").read(0)
    assert back.queries[0].content.digest() == content.digest()
    assert back.positives[0].content.digest() == record.positives[0].content.digest()
    part = back.queries[0].content.parts[1].parts[1]
    assert (part.source, part.text, part.label) == (pdf, text, "train-00000.tar:k.0.pdf")


def test_random_access_over_several_tars(reader):
    assert len(reader.shards) > 3 and len(reader) == 40
    for row in np.random.default_rng(0).permutation(40):
        assert reader.read(int(row)).key == f"r{row}" == reader.index["key"][int(row)].as_py()
    assert reader.row_of("r17") == 17 and [record.key for record in reader][:3] == ["r0", "r1", "r2"]
    with pytest.raises(IndexError):
        reader.read(40)
    with pytest.raises(DataError, match="no record has the key 'r99'"):
        reader.row_of("r99")


def test_the_index_follows_the_contract(reader):
    index, meta = reader.index, json.loads((reader.folder / "train.json").read_text())
    assert {"key", "shard", "offset", "size", "concept", "source", "language", "tokens"} <= set(index.column_names)
    assert set(index["language"].to_pylist()) == {"en"}
    assert (meta["version"], meta["task"], meta["split"], meta["count"]) == (1, "image_caption", "train", 40)
    assert meta["licences"] == {"made": "CC0"}
    with tarfile.open(reader.folder / reader.shards[1]["file"]) as tar:
        first = index.filter(np.asarray(index["shard"]) == 1).slice(0, 1).to_pylist()[0]
        members = [m for m in tar.getmembers() if m.name.startswith(first["key"] + ".")]
    assert members[0].offset == first["offset"]
    assert members[-1].offset_data + members[-1].size <= first["offset"] + first["size"]


def test_equal_records_give_equal_files(make_record, tmp_path):
    for name in ("one", "two"):
        with ShardWriter(tmp_path / name, "image_caption", "train", {"made": "CC0"}) as writer:
            for number in range(5):
                writer.write(make_record(number))
    files = [sorted((tmp_path / name).iterdir()) for name in ("one", "two")]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]


def test_readers_travel_light_and_notice_changes(reader, make_shards, make_record):
    reader.read(0)
    sent = pickle.dumps(reader)
    assert len(sent) < 1000
    assert pickle.loads(sent).read(3).key == "r3"  # noqa: S301 (made two lines above)
    make_shards(make_record(n) for n in range(41))
    with pytest.raises(DataError, match="changed while"):
        pickle.loads(sent)  # noqa: S301


def test_a_split_appears_whole_or_not_at_all(make_record, tmp_path):
    folder = tmp_path / "image_caption"

    def write(count: int, fail: bool = False) -> None:
        with ShardWriter(folder, "image_caption", "train", {"made": "CC0"}, max_bytes=6000) as writer:
            for number in range(count):
                writer.write(make_record(number))
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(5, fail=True)
    assert list(folder.iterdir()) == []
    write(20)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        write(7, fail=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    write(2)
    assert len(ShardReader(folder, "train")) == 2
    assert sum(path.suffix == ".tar" for path in folder.iterdir()) == 1
    write(0)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "change, message",
    [
        ({"key": "r1"}, "'r1' comes twice"),
        ({"key": "a.b"}, "without dot"),
        ({"key": ""}, "1 to 88"),
        ({"task": "other"}, "belongs to task 'other'"),
        ({"source": "unknown"}, "source 'unknown' has no licence"),
        ({"positives": ()}, "one query and one positive"),
        ({"queries": (Variant(Content(Image("nowhere/fox.png"))),)}, "'r2'.*nowhere/fox.png"),
        ({"queries": (Variant(Content(Image(np.zeros((2, 2, 3), np.uint8)))),)}, "'r2'.*ndarray.*encoded bytes"),
    ],
)
def test_records_that_cannot_be_stored(make_shards, make_record, change, message):
    wrong = Record(**{**make_record(2).__dict__, **change})
    with pytest.raises(DataError, match=message):
        make_shards([make_record(1), wrong])


def test_a_full_disk_leaves_nothing_behind(make_record, tmp_path):
    writer = ShardWriter(tmp_path, "image_caption", "train", {"made": "CC0"})

    class Full:
        def tell(self) -> int:
            return 0

        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    with pytest.raises(DataError, match=r"train: cannot be written \(No space left on device\)"), writer:
        writer.write(make_record(0))
        writer._file.close()
        writer._file = Full()
        writer.write(make_record(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("full", ["tar", "index", "description"])
def test_a_full_disk_leaves_the_split_that_was_there(make_record, tmp_path, monkeypatch, full):
    def write(count: int) -> None:
        with ShardWriter(tmp_path, "image_caption", "train", {"made": "CC0"}, max_bytes=6000) as writer:
            for number in range(count):
                writer.write(make_record(number))

    def fail(*_args, **_options):
        raise OSError(28, "No space left on device")

    write(3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    place, name = {
        "tar": (ShardWriter, "_close_shard"),
        "index": (shard_writer.pq, "write_table"),
        "description": (Path, "write_text"),
    }[full]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail)
        with pytest.raises(DataError, match=r"train: cannot be written \(No space left on device\)"):
            write(20)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    ShardReader(tmp_path, "train").verify()


def test_a_missing_or_empty_split(tmp_path, reader):
    with pytest.raises(DataError, match=r"dev\.json: no such split.*commonspace data build"):
        ShardReader(reader.folder, "dev")
    path = reader.folder / "train.json"
    meta = json.loads(path.read_text())
    for change, message in (({"count": 0}, "the split is empty"), ({"version": 9}, "version 9")):
        path.write_text(json.dumps({**meta, **change}))
        with pytest.raises(DataError, match=message):
            ShardReader(reader.folder, "train")
    path.write_text("{")
    with pytest.raises(DataError, match="not a description of shards"):
        ShardReader(reader.folder, "train")


@pytest.fixture
def far(reader) -> str:
    """The same split behind a URL."""
    system = fsspec.filesystem("memory")
    for path in reader.folder.iterdir():
        system.pipe(f"/far/image_caption/{path.name}", path.read_bytes())
    yield "memory://far/image_caption"
    system.rm("/far", recursive=True)


@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_a_split_that_lies_elsewhere_reads_the_same(reader, far, chain):
    remote = pickle.loads(pickle.dumps(ShardReader(chain + far, "train")))  # noqa: S301
    remote.fetch([5, 31, 12])
    for row in (12, 31, 5, 0, 39):
        there, here = remote.read(row), reader.read(row)
        assert [told(v.content) for v in there.queries] == [told(v.content) for v in here.queries]
        assert remote.source(row) == reader.source(row)
    assert remote.fingerprint == reader.fingerprint and remote.row_of("r17") == 17
    remote.verify()


def test_damage_far_away_is_named_as_here(far):
    system = fsspec.filesystem("memory")
    with pytest.raises(DataError, match=r"memory://far/image_caption/dev\.json: no such split"):
        ShardReader(far, "dev")
    remote = ShardReader(far, "train")
    row, tar = int(np.flatnonzero(remote.column("shard") == 2)[1]), "/far/image_caption/train-00002.tar"
    whole = system.cat_file(tar)
    place = int(remote.column("offset")[row]) + 700
    system.pipe(tar, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(DataError, match=rf"train-00002\.tar: record 'r{row}' is cut short or damaged"):
        remote.read(row)
    system.pipe(tar, whole[:-600])
    with pytest.raises(DataError, match=r"train-00002\.tar: has \d+ bytes where"):
        ShardReader(far, "train")
    system.rm(tar)
    with pytest.raises(DataError, match=r"train-00002\.tar: is missing"):
        ShardReader(far, "train")
    with pytest.raises(StorageError, match="a tar is gone"):
        remote.fetch([row])


def shard_of(reader: ShardReader, number: int) -> Path:
    return reader.folder / reader.shards[number]["file"]


def test_a_truncated_empty_or_absent_tar(reader):
    path = shard_of(reader, 1)
    whole = path.read_bytes()
    for content in (whole[:-600], b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"train-00001\.tar: has {len(content)} bytes where {len(whole)}"):
            ShardReader(reader.folder, "train")
    path.unlink()
    with pytest.raises(DataError, match=r"train-00001\.tar: is missing"):
        ShardReader(reader.folder, "train")


def test_a_tar_cut_while_it_is_open_names_the_key(reader):
    row = int(np.flatnonzero(reader.column("shard") == 1)[-1])
    reader.read(row)
    path = shard_of(reader, 1)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1500)
    with pytest.raises(DataError, match=rf"train-00001\.tar: record 'r{row}' is cut short"):
        reader.read(row)


def test_a_changed_byte_names_the_key_and_fails_the_hash(reader):
    row = int(np.flatnonzero(reader.column("shard") == 2)[1])
    path, place = shard_of(reader, 2), int(reader.column("offset")[row]) + 700
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=rf"train-00002\.tar: record 'r{row}' is cut short or damaged"):
        reader.read(row)
    assert reader.read(row + 1).key == f"r{row + 1}"
    with pytest.raises(DataError, match=r"train-00002\.tar: its sha256"):
        reader.verify()


def test_an_index_of_other_shards(reader):
    path = reader.folder / "train.parquet"
    pq.write_table(reader.index.slice(0, 10), path)
    fresh = ShardReader(reader.folder, "train")
    with pytest.raises(DataError, match=r"train\.parquet: not the index"):
        fresh.read(0)
    path.unlink()
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read"):
        ShardReader(reader.folder, "train").read(0)


def test_estimates_grow_with_the_content():
    assert estimate_tokens(Content("word")) < estimate_tokens(Content("word " * 50))
    assert estimate_tokens(Content(Image(b"x"), "word")) > estimate_tokens(Content("word")) + 8
    assert estimate_tokens(Content(Audio(bytes(80_000)))) == pytest.approx(4 + 125, abs=2)
    assert estimate_tokens(Content(Document("word", Image(b"x")))) > estimate_tokens(Content(Image(b"x")))
    one, three = (estimate_tokens(Content(Document(Pdf(pdf_bytes([b""] * pages))))) for pages in (1, 3))
    assert three - one == 2 * (estimate_tokens(Content(Image(b"x"))) - 2)
    assert estimate_tokens(Content(Document(Pdf(b"broken")))) == one
    assert estimate_tokens(Content(Document(Pdf(pdf_bytes([b""]), text="after")))) > one + 100


@pytest.mark.parametrize(
    "data, name, ending",
    [
        (b"\x89PNG", None, "png"), (b"", "a.OGG", "ogg"), (b"RIFF0000WAVE", None, "wav"), (b"????", None, "bin"),
        (b"<svg/>", None, "svg"), (b"\0\0\0\x18ftypisom", None, "mp4"), (b"RIFF0000WEBP", "x.y/z", "webp"),
        (b"GIF89a", "no.such-ending", "gif"),
    ],
)  # fmt: skip
def test_endings(data, name, ending):
    assert file_ending(data, name) == ending
