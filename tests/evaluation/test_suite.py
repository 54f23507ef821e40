"""Which tasks a tier gives, what counts as right in each, and what a filter may drop."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commonspace.content import Content
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.evaluation.relevance import name_of, normalise, one_per_unit
from commonspace.evaluation.specs import SPECS
from commonspace.evaluation.suite import EvalTask, build_suite, build_task
from tests.evaluation.made import captions, clip, record, write


def right(task: EvalTask, query: Content) -> list[str]:
    """What answers a query, as sorted strings."""
    row = task.query_digests.tolist().index(query.digest())
    return sorted(name_of(task.gallery[item]) or task.gallery[item].parts[0].label for item in task.relevance.of(row))


def test_both_directions_and_the_missing_shards(tier: Path) -> None:
    suite = build_suite(tier)
    labels = {task.label for task in suite.tasks}
    assert {"image_caption image->text", "image_caption text->image", "stamp_language image+text->text"} <= labels
    assert "speech" in suite.absent and "image_caption" not in suite.absent
    with pytest.raises(DataError, match="speech"):
        build_suite(tier, tasks=["speech"])
    with pytest.raises(DataError, match="unknown evaluation tasks"):
        build_suite(tier, tasks=["spech"])


def test_any_item_of_the_concept_is_right(tier: Path) -> None:
    task = build_suite(tier).task("image_caption", "image->text")
    first = captions()[0].queries[0].content
    assert right(task, first) == ["a drawing of fruit a", "fruit a"]
    assert len(task.gallery) == 27 and set(task.languages) == {"en"}


def test_a_text_that_reads_the_same_is_right_and_is_one_item(tmp_path: Path) -> None:
    rows = [
        record(f"k{i}", "code", "module", Content(f"Docstring {i}"), ("en", Content(body)))
        for i, body in enumerate(["return 1", "return  1", "RETURN 1", "return 2", "return 2"])
    ]
    write(tmp_path, "code", rows)
    task = build_suite(tmp_path).task("code", "text->code")
    assert len(task.gallery) == 4
    assert [right(task, row.queries[0].content) for row in rows] == [["return 1"] * 3] * 3 + [["return 2"]] * 2


def test_composed_queries_get_no_credit_for_another_relation(tier: Path) -> None:
    task = build_suite(tier).task("stamp_language", "image+text->text")
    assert task.relevance.counts.tolist() == [1] * 10 and len(task.gallery) == 10
    assert all(name_of(task.gallery[int(task.relevance.of(row)[0])]).endswith(f"({language})")  # type: ignore[union-attr]
               for row, language in enumerate(task.languages))  # fmt: skip


def test_languages_compete_among_themselves(tier: Path) -> None:
    tasks = [t for t in build_suite(tier).tasks if t.label == "image_caption_languages image->text"]
    assert len(tasks) == 1 and sorted(set(tasks[0].query_groups)) == ["en", "fr"]
    sizes = dict(zip(tasks[0].query_groups, tasks[0].pools, strict=True))
    assert sizes == {"en": 27, "fr": 26}
    for row, group in enumerate(tasks[0].query_groups):
        assert {tasks[0].gallery_groups[item] for item in tasks[0].relevance.of(row)} == {group}


def test_sound_is_scored_within_one_action_among_clips_that_have_it(tier: Path) -> None:
    suite = build_suite(tier, tasks=["video"])
    loud, mute = (next(t for t in suite.tasks if t.name == name) for name in ("video_sound", "video_sound_muted"))
    assert set(loud.pools) == {4} and len(loud.queries) == 8
    assert all(part.sound for item in loud.gallery for part in item.parts)
    assert not any(part.sound for item in mute.gallery for part in item.parts)
    assert len({*loud.gallery_digests, *mute.gallery_digests}) == 16
    assert right(suite.task("video", "text->video"), Content("a wyvern moving, facing 0")) != []
    assert len(set(loud.units)) == 8 and set(loud.concepts) == {"flare:wyvern"}


def test_a_query_that_lies_in_its_pool_is_dropped_and_the_pool_stays(tmp_path: Path) -> None:
    rows = [
        record(f"k{i}", "summary", f"w{i}", Content(q), ("en", Content(p)))
        for i, (q, p) in enumerate([("OK", "OK"), ("Cat", "An animal."), ("Dog", "Cat")])
    ]
    write(tmp_path, "summary", rows)
    task = build_suite(tmp_path).task("summary", "text->text")
    assert [name_of(query) for query in task.queries] == ["dog"]
    assert len(task.gallery) == 3 and task.dropped == {"query is in its own pool": 2}


def test_limit_takes_the_same_records_every_time(tier: Path) -> None:
    first, second = (build_suite(tier, tasks=["image_caption"], limit=9) for _ in range(2))
    assert first.tasks[0].keys == second.tasks[0].keys and len(first.tasks[0].keys) == 9


def test_a_cap_takes_the_same_pairs_of_every_language_every_time(tier: Path) -> None:
    spec = next(spec for spec in SPECS if spec.group == "language")
    records = list(ShardReader(tier / spec.shard, "heldout"))
    whole, capped, turned = (
        build_task(replace(spec, most=most), rows, "heldout")
        for most, rows in ((None, records), (21, records), (21, records[::-1]))
    )
    assert Counter(capped.query_groups) == {"en": 21, "fr": 21}
    assert set(capped.keys) == set(turned.keys) < set(whole.keys)


def test_zero_shot_tasks_are_held_out_only(tmp_path: Path) -> None:
    row = record("p", "painting", "wave", Content(clip("x")), ("en", Content("Hokusai, Wave")))
    for split in ("heldout", "dev"):
        write(tmp_path, "painting", [row], split)
    assert len(build_suite(tmp_path).tasks) == 2
    with pytest.raises(DataError, match="no dev split"):
        build_suite(tmp_path, "dev")


def test_one_query_a_concept_does_not_depend_on_order() -> None:
    units, keys = ["a", "b", "a", "a", "b"], ["1", "2", "3", "4", "5"]
    chosen = one_per_unit(units, keys, np.ones(5, dtype=bool))
    turned = one_per_unit(units[::-1], keys[::-1], np.ones(5, dtype=bool))
    assert chosen.sum() == 2 and turned[::-1].tolist() == chosen.tolist()
    without = one_per_unit(units, keys, ~chosen)
    assert without.sum() == 2 and not (without & chosen).any()


def test_normalised_names() -> None:
    assert normalise(" \uff26ull\u00a0 WIDTH\n") == "full width"
    assert name_of(Content("a", "b")) == "a b" and name_of(Content(" ")) is None


def test_own_pairs_are_asked_both_ways_and_missed_in_no_other_tier(tmp_path: Path, tier: Path) -> None:
    write(
        tmp_path / "mine",
        "own",
        [record(f"k{i}", "own", f"c{i}", Content(f"q{i}"), ("en", Content(f"p{i}"))) for i in range(3)],
    )
    suite = build_suite(tmp_path / "mine")
    assert [task.direction for task in suite.tasks] == ["query->positive", "positive->query"]
    assert [len(task.gallery) for task in suite.tasks] == [3, 3]
    assert "own" not in build_suite(tier).absent


@pytest.mark.parametrize("tier, command", [("mini", "data build"), ("own", "data build own PAIRS.jsonl")])
def test_a_tier_without_shards_is_told_how_to_build_them(tmp_path: Path, tier: str, command: str) -> None:
    with pytest.raises(DataError, match=f"run `commonspace {command}` first"):
        build_suite(tmp_path / tier)
