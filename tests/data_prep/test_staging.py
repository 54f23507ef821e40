from __future__ import annotations

import json
import sys
import tarfile
from dataclasses import replace

import pytest

from commonspace.content import Audio, Content, Document, Image, Video
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep import staging
from data_prep.staging import stage, unpacked
from tests.data_prep.limits import largest_file


def staged(source, cache):
    return stage(source, cache, lambda _count: None)


def everything(item):
    return [record for _, record in item.records(iter([True] * item.count))]


def test_records_come_back_as_they_were(tmp_path, source_of, png):
    (tmp_path / "a.png").write_bytes(png("blue"))
    picture = Image(png())
    record = Record(
        key="k",
        task="document",
        source="one",
        concept="page",
        queries=(Variant(Content("what?"), "en"), Variant(Content("quoi ?"), "fr")),
        positives=(Variant(Content(Document("above", picture, "below", Image(tmp_path / "a.png"))), None),),
        negatives=(Content(Video(b"clip", sound=False)), Content(Audio(b"noise"))),
        extra={"page": 3},
    )
    [(found)] = everything(staged(source_of("one", [record]), tmp_path / "cache"))
    assert [v.language for v in found.queries] == ["en", "fr"] and found.extra == {"page": 3}
    for old, new in zip(record.positives + record.queries, found.positives + found.queries, strict=True):
        assert old.content.digest() == new.content.digest()
    assert [content.digest() for content in found.negatives] == [content.digest() for content in record.negatives]


def test_a_row_is_joined_by_whole_sides_or_where_that_is_asked_for_by_each_medium(tmp_path, source_of, row, png):
    (tmp_path / "a.png").write_bytes(png("blue"))
    asked = [Content(Image(png("blue")), question) for question in ("what?", "where?")]
    page = Content(Document("above", Image(tmp_path / "a.png"), Image(png("red"))))
    clips = [Content(Video(b"clip", sound=sound)) for sound in (True, False)]
    sides = [*asked, page, *clips]
    records = [replace(row(f"k{n}", "text", "text", "c"), queries=(Variant(side),)) for n, side in enumerate(sides)]
    whole = [item.media_ids for item in staged(source_of("one", records), tmp_path / "one").rows()]
    assert [len(ids) for ids in whole] == [1] * 5 and len({ids[0] for ids in whole}) == 5
    each = stage(source_of("one", records), tmp_path / "two", lambda _count: None, each_medium=True)
    first, second, page_ids, clip, muted = [item.media_ids for item in each.rows()]
    assert first == second and len(page_ids) == 2 and set(first) < set(page_ids) and clip == muted
    assert [record.queries[0].content.digest() for record in everything(each)] == [side.digest() for side in sides]


def test_bytes_that_recur_are_kept_once(tmp_path, source_of, row, png):
    data = png(size=(60, 60))
    records = [row(f"k{number}", data, f"name {number}", "c") for number in range(20)]
    item = staged(source_of("one", records), tmp_path)
    assert (item.folder / "media.bin").stat().st_size == len(data)
    assert {record.queries[0].content.parts[0].source for record in everything(item)} == {data}


def test_an_unchanged_source_is_not_read_again(tmp_path, source_of, row):
    reads = []

    def records(_folders, drops):
        reads.append(1)
        drops["too short"] += 2
        yield row("k", "query", "answer", "c")

    source = replace(source_of("one", []), records=records)
    assert [staged(source, tmp_path).drops for _ in range(2)] == [{"too short": 2}] * 2
    assert len(reads) == 1


def test_a_source_that_stopped_half_way_leaves_nothing(tmp_path, source_of, row):
    def records(_folders, _drops):
        yield row("k", "query", "answer", "c")
        raise DataError("the rest is broken")

    with pytest.raises(DataError, match="the rest is broken"):
        staged(replace(source_of("one", []), records=records), tmp_path)
    assert not any((tmp_path / "staged").iterdir())


@pytest.mark.parametrize("most", [40, 4000])
def test_a_disk_that_is_full_leaves_nothing(tmp_path, source_of, row, most):
    """Files of at most so many bytes, as a quota gives: an early write fails, or the one when files are closed."""
    source = source_of("one", [row(f"k{number}", "query", "answer", "c") for number in range(30)])
    with largest_file(most), pytest.raises(DataError, match=r"source one: .*File too large.* after 30 records, in "):
        staged(source, tmp_path)
    assert not any((tmp_path / "staged").iterdir())
    assert staged(source, tmp_path).count == 30


def test_the_fingerprint_follows_packages_and_code(tmp_path, monkeypatch, package_of):
    (tmp_path / "a.tgz").write_bytes(b"a")
    folder = tmp_path / "readers"
    folder.mkdir()
    (folder / "reader_of_foxes.py").write_text(
        "from data_prep.split import concept\ndef records(f, d): yield from ()\n"
    )
    monkeypatch.syspath_prepend(folder)
    import reader_of_foxes

    from data_prep.source import Source

    source = Source(
        "foxes", (package_of(tmp_path / "a.tgz"),), "CC0", "-", frozenset(), records=reader_of_foxes.records
    )
    names = {path.name for path in staging._code_of(source)}
    assert {"reader_of_foxes.py", "split.py", "staging.py"} <= names  # imports of imports count
    before = staging.fingerprint(source)
    assert staging.fingerprint(replace(source, licence="MIT")) == before  # rows do not depend on it
    assert staging.fingerprint(replace(source, packages=(replace(source.packages[0], sha256="0"),))) != before
    (folder / "reader_of_foxes.py").write_text("def records(f, d): yield from ()\n")
    assert staging.fingerprint(source) != before
    del sys.modules["reader_of_foxes"]


def test_two_records_of_one_key_are_an_error(tmp_path, source_of, row):
    records = [row("k", "a", "b", "c"), row("k", "d", "e", "f")]
    with pytest.raises(DataError, match="two records of task image_caption have key 'k'"):
        staged(source_of("one", records), tmp_path)


def test_a_record_must_name_its_source(tmp_path, source_of, row):
    with pytest.raises(DataError, match="names source 'other'"):
        staged(source_of("one", [row("k", "a", "b", "c", source="other")]), tmp_path)


def test_an_array_is_no_medium_of_a_record(tmp_path, source_of, row):
    import numpy as np

    record = replace(row("k", "a", "b", "c"), queries=(Variant(Content(Image(np.zeros((3, 3, 3), np.uint8)))),))
    with pytest.raises(DataError, match="is an array; encode it"):
        staged(source_of("one", [record]), tmp_path)


def test_weights_cannot_be_built(tmp_path, source_of):
    source = replace(source_of("tower", []), records=None, role="weights")
    with pytest.raises(DataError, match="source tower holds weights, not records"):
        staged(source, tmp_path)


def test_a_package_is_unpacked_once_and_named_by_its_hash(tmp_path, package_of):
    (tmp_path / "downloads").mkdir()
    path = tmp_path / "downloads" / "thing-1.0.tgz"
    (tmp_path / "note.json").write_text(json.dumps({"a": 1}))
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "note.json", "package/note.json")
    package = replace(package_of(path), name="@scope/thing")
    folder = unpacked(package, "foxes", tmp_path)
    assert folder.name == f"scope-thing-{package.sha256[:8]}"
    assert json.loads((folder / "package/note.json").read_text()) == {"a": 1}
    path.unlink()  # a second call needs the archive no more
    assert unpacked(package, "foxes", tmp_path) == folder
