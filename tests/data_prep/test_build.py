from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from commonspace.content import Content, Image
from commonspace.data.sample import Variant
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from data_prep import build
from data_prep.build import build_tier, read_manifest
from data_prep.split import SPLITS, split_of


def concepts_of(folder) -> dict[str, set[str]]:
    """{side: concepts} over all tasks of a tier."""
    found: dict[str, set[str]] = {side: set() for side in SPLITS}
    for path in folder.glob("*/*.parquet"):
        found[path.stem] |= set(ShardReader(path.parent, path.stem).column("concept"))
    return found


def test_one_concept_lies_on_one_side_over_tasks_and_sources(tmp_path, source_of, row):
    names = [f"thing {number}" for number in range(60)]
    one = source_of(
        "one", [row(f"a{n}", f"what is {name}", name, name, task="summary") for n, name in enumerate(names)]
    )
    two = source_of(
        "two", [row(f"b{n}", f"say {name}", f"I say {name}", name, "speech", "two") for n, name in enumerate(names)]
    )
    manifest = build_tier("tiny", [one, two], tmp_path / "cache", tmp_path / "data", workers=1)
    sides = concepts_of(tmp_path / "data/tiny")
    assert all(sides.values()) and not (sides["train"] & sides["heldout"]) and not (sides["train"] & sides["dev"])
    assert all(split_of(name) == side for side, found in sides.items() for name in found)
    assert manifest["tasks"]["summary"] == manifest["tasks"]["speech"]
    assert sum(manifest["tasks"]["speech"].values()) == 60


def test_the_split_does_not_depend_on_what_else_is_built(tmp_path, source_of, row):
    rows = [row(f"a{n}", f"q{n}", f"p{n}", f"thing {n}") for n in range(40)]
    build_tier("few", [source_of("one", rows[:9])], tmp_path / "cache", tmp_path / "data", workers=1)
    many_rows = source_of("one", rows[::-1])
    build_tier("many", [many_rows], tmp_path / "other", tmp_path / "data", workers=1, folder="many_built")
    assert not (tmp_path / "data/many").exists()
    few, many = concepts_of(tmp_path / "data/few"), concepts_of(tmp_path / "data/many_built")
    assert all(few[side] <= many[side] for side in SPLITS)


def test_a_pair_that_a_task_has_is_dropped_and_counted(tmp_path, source_of, row, png):
    one = source_of(
        "one", [row("a", png(), "a fox", "fox"), row("b", png(), "a fox", "fox"), row("c", png(), "a red fox", "fox")]
    )
    two = source_of(
        "two", [row("d", png(), "a fox", "fox", source="two"), row("e", png(), "a fox", "fox", "stamp", "two")]
    )
    manifest = build_tier("tiny", [one, two], tmp_path / "cache", tmp_path / "data", workers=1)
    assert manifest["sources"]["one"]["drops"] == {"exact duplicate of an earlier row": 1}
    assert manifest["sources"]["two"]["drops"] == {"exact duplicate of an earlier row": 1}
    assert [sum(tally.values()) for tally in manifest["tasks"].values()] == [2, 1]


def test_one_picture_under_two_names_is_one_concept(tmp_path, source_of, row, png):
    # "flamingo" alone would be dev, "butterfly" alone train
    rows = [row("a", png("red"), "a butterfly", "butterfly"), row("b", png("red"), "a flamingo", "flamingo")]
    manifest = build_tier("tiny", [source_of("one", rows)], tmp_path / "cache", tmp_path / "data", workers=1)
    assert split_of("butterfly") != split_of("flamingo")
    reader = ShardReader(tmp_path / "data/tiny/image_caption", split_of("flamingo"))
    assert list(reader.column("concept")) == ["flamingo", "flamingo"]  # the shorter name
    assert manifest["merged_concepts"] == {"groups": 1, "largest": [["butterfly", "flamingo"]]}


def test_a_shared_part_of_a_query_keeps_names_apart_but_sides_together(tmp_path, source_of, row, png):
    def asked(key, concept, answer):
        record = row(key, "q", answer, concept, "figure")
        return replace(record, queries=(Variant(Content(Image(png("red")), "The toolbar")),))

    rows = [asked("a", "butterfly", "Click it."), asked("b", "flamingo", "Wait.")]
    build_tier("tiny", [source_of("one", rows)], tmp_path / "cache", tmp_path / "data", workers=1)
    reader = ShardReader(tmp_path / "data/tiny/figure", split_of("flamingo"))
    assert sorted(reader.column("concept")) == ["butterfly", "flamingo"]


def test_zero_shot_sources_and_tasks_are_held_out(tmp_path, source_of, row):
    rows = [row(f"a{n}", f"q{n}", f"p{n}", f"thing {n}", source="two") for n in range(30)]
    paintings = [row(f"b{n}", f"v{n}", f"w{n}", f"thing {n}", "painting") for n in range(30)]
    trained = [row(f"c{n}", f"x{n}", f"y{n}", f"thing {n}", "summary") for n in range(30)]
    one = source_of("one", paintings + trained, zero_shot_tasks=frozenset({"painting"}))
    two = source_of("two", rows, role="zero_shot")
    manifest = build_tier("tiny", [one, two], tmp_path / "cache", tmp_path / "data", workers=1)
    assert manifest["tasks"]["painting"] == manifest["tasks"]["image_caption"] == {"train": 0, "dev": 0, "heldout": 30}
    assert manifest["tasks"]["summary"]["train"] > 20
    assert manifest["sources"]["one"]["zero_shot_tasks"] == ["painting"]


def test_a_drawing_and_a_photo_of_two_sources_make_a_pair(tmp_path, source_of, row, png):
    drawn = replace(row("a", png("red"), "a fox", "fox"), extra={"style": "drawing"})
    photo = replace(row("b", png("blue"), "a fox", "fox", source="two"), extra={"style": "photo"})
    other = replace(row("c", png("green"), "a cow", "cow", source="two"), extra={"style": "photo"})
    sources = [source_of("one", [drawn]), source_of("two", [photo, other])]
    manifest = build_tier("tiny", sources, tmp_path / "cache", tmp_path / "data", workers=1)
    assert sum(manifest["tasks"]["sketch"].values()) == 1
    [record] = ShardReader(tmp_path / "data/tiny/sketch", split_of("fox"))
    assert record.queries[0].content.parts[0].source == png("red")
    assert record.positives[0].content.parts[0].source == png("blue")


def test_an_unchanged_tier_is_left_alone_and_a_damaged_one_is_not(tmp_path, source_of, row, monkeypatch):
    source = source_of("one", [row("a", "q", "p", "thing")])

    def built():
        return build_tier("tiny", [source], tmp_path / "cache", tmp_path / "data", workers=1)

    first = built()
    meta = next((tmp_path / "data/tiny/image_caption").glob("*.json"))
    stamp = meta.stat().st_mtime_ns
    assert built() == first and meta.stat().st_mtime_ns == stamp
    meta.unlink()
    assert built() == first and meta.is_file()
    source = replace(source, licence="MIT")
    assert built()["fingerprint"] != first["fingerprint"]


@pytest.mark.parametrize("code", ["shard_writer", "estimate", "sample", "tar_records", "merge", "keys"])
def test_code_that_decides_what_is_written_builds_a_tier_again(tmp_path, source_of, row, monkeypatch, code):
    def built():
        source = source_of("one", [row("a", "q", "p", "thing")])
        return build_tier("tiny", [source], tmp_path / "cache", tmp_path / "data", workers=1)["fingerprint"]

    before = built()
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + b"#" * (path.name == f"{code}.py"))
    assert built() != before


def test_two_builds_of_the_same_rows_are_the_same_bytes(tmp_path, source_of, row, png):
    source = source_of("one", [row(f"a{n}", png(size=(9, 9 + n)), f"p{n}", f"thing {n}") for n in range(30)])
    for place in ("here", "there"):
        build_tier("tiny", [source], tmp_path / f"cache-{place}", tmp_path / place, workers=1)
    files = [
        {p.name: p.read_bytes() for p in (tmp_path / place).rglob("*") if p.is_file()} for place in ("here", "there")
    ]
    assert files[0] == files[1] and len(files[0]) > 3


def test_a_build_that_fails_leaves_the_tier_before_it(tmp_path, source_of, row):
    good = source_of("one", [row("a", "q", "p", "thing")])
    build_tier("tiny", [good], tmp_path / "cache", tmp_path / "data", workers=1)
    before = read_manifest(tmp_path / "data/tiny")
    bad = source_of("two", [row("x.y", "other", "p", "thing", source="two")])  # a key may not have a dot
    with pytest.raises(DataError, match=r"'x\.y'"):
        build_tier("tiny", [good, bad], tmp_path / "cache", tmp_path / "data", workers=1)
    assert read_manifest(tmp_path / "data/tiny") == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["tiny"]


def test_no_row_and_no_source_are_errors(tmp_path, source_of):
    with pytest.raises(DataError, match="no sources"):
        build_tier("tiny", [], tmp_path, tmp_path)
    with pytest.raises(DataError, match="hold no row"):
        build_tier("tiny", [source_of("one", [])], tmp_path, tmp_path / "data", workers=1)


def test_a_manifest_that_is_not_json_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="delete .* and build it again"):
        read_manifest(tmp_path)


@pytest.mark.slow
def test_sources_are_read_in_processes(tmp_path, package_of):
    """Real readers, since a worker process must import them: two that find nothing to fetch say so by name."""
    from data_prep.sources import sources_of

    with pytest.raises(DataError, match="is not fetched yet"):
        build_tier("tiny", sources_of("tiny", ["asterisk-en", "line-md"]), tmp_path, tmp_path / "data", workers=2)
    assert build.MANIFEST == "manifest.json" and not any((tmp_path / "data").iterdir())


def test_counts_are_by_language_and_kind(tmp_path, source_of, row, png):
    record = replace(
        row("a", png(), "a fox", "fox"),
        positives=(Variant(Content("a fox"), "en"), Variant(Content("un renard"), "fr")),
    )
    manifest = build_tier("tiny", [source_of("one", [record])], tmp_path / "cache", tmp_path / "data", workers=1)
    source = manifest["sources"]["one"]
    assert source["languages"] == {"en": 1, "fr": 1} and source["kinds"] == {"image -> text": 1}
    assert json.loads((tmp_path / "data/tiny/manifest.json").read_text()) == manifest
