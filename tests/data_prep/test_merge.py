"""What a larger tier does to a smaller one, and rows that are made of other rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from data_prep.build import build_tier
from data_prep.split import SPLITS, split_of
from data_prep.staging import stage
from tests.data_prep.limits import largest_file

FULL = {"tiers": frozenset({"full"})}


def sides_of(folder) -> dict[str, str]:
    """{key of a row: its side} over all tasks of a tier."""
    found = {}
    for path in folder.glob("*/*.parquet"):
        found |= {f"{path.parent.name}/{key}": path.stem for key in ShardReader(path.parent, path.stem).column("key")}
    return found


def build(tmp_path, name, *sources):
    manifest = build_tier(name, sources, tmp_path / "cache", tmp_path / "data", workers=1)
    return manifest, sides_of(tmp_path / "data" / name)


def test_held_out_of_the_smaller_tier_stays_held_out_in_the_larger(tmp_path, source_of, row, png):
    """Each row's picture comes again under a short name that trains: a joined group is named by its shortest name."""
    held = [name for name in (f"a long name {number}" for number in range(400)) if split_of(name) == "heldout"][:12]
    short = [name for name in map(str, range(400)) if split_of(name) == "train"][:12]
    colours = [png(f"rgb({number},7,7)") for number in range(12)]
    small = source_of("small", [row(f"a{n}", colours[n], name, name, source="small") for n, name in enumerate(held)])
    large = source_of(
        "large", [row(f"b{n}", colours[n], f"now {name}", name, source="large") for n, name in enumerate(short)], **FULL
    )
    _, before = build(tmp_path, "tiny", small)
    assert set(before.values()) == {"heldout"}
    _, after = build(tmp_path, "full", small, large)
    assert {key: after[key] for key in before} == before
    assert {side for key, side in after.items() if key not in before} == {"heldout"}  # the same pictures


def test_the_smaller_tier_alone_is_as_it_was(tmp_path, source_of, row, png):
    rows = [row(f"a{n}", png(f"rgb({n % 9},7,7)"), f"p{n}", f"thing {n}") for n in range(40)]
    _, here = build(tmp_path, "tiny", source_of("one", rows))
    _, there = build(tmp_path, "full", source_of("one", rows, **FULL))
    assert here == there and set(here.values()) <= set(SPLITS)


@pytest.mark.parametrize("most", [600, 2500, 20000])
def test_a_disk_that_is_full_leaves_the_tier_that_was_there(tmp_path, source_of, row, png, most):
    """The first shard does not fit, or a later one, or all do but the manifest."""
    first = source_of("one", [row("k", png(), "was there", "c")])
    _, before = build(tmp_path, "tiny", first)
    rows = [row(f"a{n}", png(f"rgb({n},7,7)"), f"p{n} " * 20, f"thing {n}") for n in range(120)]
    larger = replace(source_of("one", rows), licence="many words " * 2000)
    stage(larger, tmp_path / "cache", lambda _count: None)
    with largest_file(most), pytest.raises(DataError, match=r"cannot be written .*File too large"):
        build(tmp_path, "tiny", larger)
    assert sides_of(tmp_path / "data" / "tiny") == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["tiny"], "nothing half written stays"


def test_a_row_made_of_others_trains_where_all_of_them_train(tmp_path, source_of, row, png):
    trained = [name for name in map(str, range(99)) if split_of(name) == "train"][:3]
    other = next(name for name in map(str, range(99)) if split_of(name) == "heldout")
    makings = [("good", trained[:2]), ("bad", [trained[0], other]), ("worse", [other])]
    rows = [
        replace(row(key, png(f"rgb(1,{n},1)"), f"of {key}", "label:held", "same_kind"), extra={"members": members})
        for n, (key, members) in enumerate(makings)
    ]
    manifest, sides = build(tmp_path, "full", source_of("one", rows, **FULL))
    assert sides == {"same_kind/good": "train"}
    assert manifest["sources"]["one"]["drops"] == {"made of rows of which one is on dev or held out": 2}


def test_a_row_made_of_others_joins_no_concepts(tmp_path, source_of, row, png):
    """A triple of a fox and a cow would make one concept of them, and at last of all animals."""
    train = [name for name in map(str, range(99)) if split_of(name) == "train"][:2]
    pictures = [row(f"a{n}", png(f"rgb({n},1,1)"), name, name) for n, name in enumerate(train)]
    triple = replace(
        row("c", png("rgb(0,1,1)"), png("rgb(1,1,1)"), "label:animals", "same_kind"), extra={"members": train}
    )
    manifest, _ = build(tmp_path, "full", source_of("one", [*pictures, triple], **FULL))
    assert manifest["merged_concepts"]["groups"] == 0
    [record] = ShardReader(tmp_path / "data/full/same_kind", "train")
    assert record.concept == "label:animals" and record.extra["members"] == train


def test_a_member_that_a_picture_moves_takes_the_row_with_it(tmp_path, source_of, row, png):
    held = next(name for name in map(str, range(99)) if split_of(name) == "heldout")
    train = next(name for name in (f"longer {n}" for n in range(99)) if split_of(name) == "train")
    same = [row("a", png(), held, held), row("b", png(), train, train)]
    spoken = replace(row("c", "text", "said", train, "speech"), extra={"members": [train]})
    _, sides = build(tmp_path, "full", source_of("one", [*same, spoken], **FULL))
    assert "speech/c" not in sides and set(sides.values()) == {"heldout"}


def test_languages_and_modalities_are_counted_by_task(tmp_path, source_of, row, png):
    rows = [row(f"a{n}", png(f"rgb({n},1,1)"), f"p{n}", f"thing {n}") for n in range(5)]
    rows += [row(f"b{n}", f"q{n}", f"p{n}", f"thing {n}", "summary") for n in range(3)]
    manifest, _ = build(tmp_path, "full", source_of("one", rows, **FULL))
    assert manifest["task_languages"] == {"image_caption": {"en": 5}, "summary": {"en": 3}}
    assert manifest["task_kinds"] == {"image_caption": {"image -> text": 5}, "summary": {"text -> text": 3}}
