"""Staged sources to the shards of a tier: duplicates dropped, concepts split, counts kept in a manifest."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from commonspace.data.sample import Record, Variant
from commonspace.data.shard_writer import ShardWriter
from commonspace.errors import DataError
from data_prep.concepts import ConceptMerger
from data_prep.sides import Sides
from data_prep.sketches import sketch_pairs
from data_prep.source import Source
from data_prep.split import SPLITS, Split
from data_prep.staging import Row, Staged

MANIFEST = "manifest.json"
VERSION = 2
_DUPLICATE = "exact duplicate of an earlier row"
_NOT_TRAINED = "made of rows of which one is on dev or held out"
_SHOWN_GROUPS = 20


def write_tier(name: str, staged: Sequence[Staged], folder: Path, state: str, progress: Progress) -> dict[str, Any]:
    """Merge staged sources into the shards of `folder`, in place of what was there; return the manifest.

    The caller holds the folder (`building.alone`).

    Raises:
        DataError: no row at all, a row that cannot be written, or a disk that is full.
    """
    plan = _Plan.of(staged)
    if not any(map(any, plan.kept.values())):
        raise DataError(f"{name}: its sources hold no row; read what was dropped in {staged[0].folder}/staged.json")
    fresh = folder.with_name(f".{folder.name}-building")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        counts = _write_shards(staged, plan, fresh, progress)
        manifest = _manifest(name, staged, plan, counts, state)
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        replace_folder(folder, fresh)
    except OSError as error:  # those of shards say so themselves
        raise DataError(f"{folder}: cannot be written ({error}); free space; what was there before stays") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def replace_folder(folder: Path, fresh: Path) -> None:
    """Put `fresh` in the place of `folder`, which is whole at every moment but one rename."""
    old = folder.with_name(f".{folder.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@dataclass
class _Plan:
    """What one pass over all rows decides, before any medium is read.

    kept    per source and row: not the repetition of a pair that the same task already has
    names   joins the concepts of pictures that look the same: no model could tell them apart
    sides   joins the concepts of any medium that recurs: one file stays on one side, whatever it is called
    made    per source how many rows are not kept since they are made of others that do not all train
    styles  per concept the (source, style) of its pictures: which drawings and photos make pairs over two sources
    """

    kept: dict[str, list[bool]] = field(default_factory=dict)
    names: ConceptMerger = field(default_factory=ConceptMerger)
    sides: Sides = field(default_factory=Sides)
    made: Counter = field(default_factory=Counter)
    styles: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def of(cls, staged: Sequence[Staged]) -> _Plan:
        plan, seen = cls(), set()
        pictured: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for item in staged:
            flags, inner = plan.kept.setdefault(item.source.name, []), item.source.in_smaller_tier
            for row in item.rows():
                identity = (row.task, *row.pair)
                flags.append(identity not in seen)
                seen.add(identity)
                if _made(row.value["extra"]):
                    continue
                plan.names.add(row.concept, row.picture_ids)
                plan.sides.add(row.concept, row.media_ids, inner)
                if row.task == "image_caption" and row.style:
                    pictured[row.concept].add((item.source.name, row.style))
        for concept, found in pictured.items():
            plan.styles[plan.names.canonical(concept)] |= found
        plan._drop_untrained(staged)
        return plan

    def _drop_untrained(self, staged: Sequence[Staged]) -> None:
        """Rows that are made of others are for training alone: where one of those is not, they would give it away."""
        for item in staged:
            flags = self.kept[item.source.name]
            for number, row in enumerate(item.rows()):
                members = _members(row.value["extra"])
                if members and flags[number] and any(self.sides.of(name) != "train" for name in members):
                    flags[number] = False
                    self.made[item.source.name] += 1

    def concept(self, row: Row) -> str:
        """The concept a row is written with."""
        return self.names.canonical(row.concept) if row.picture_ids else row.concept

    def side(self, source: Source, record: Record) -> Split:
        """Where a row lies: held out as a whole where its source says so, else by its concept."""
        if _made(record.extra):
            return "train"
        return "heldout" if source.held_out(record.task) else self.sides.of(record.concept)

    def pairs_over_sources(self, concept: str) -> bool:
        """Whether one source draws this concept and another one shows a photo of it."""
        drawn = {source for source, style in self.styles.get(concept, ()) if style == "drawing"}
        shown = {source for source, style in self.styles.get(concept, ()) if style == "photo"}
        return any(one != other for one in drawn for other in shown)


def _members(extra: Mapping[str, Any]) -> list[str]:
    """The concepts that a row made of other rows is made of; empty for any other row."""
    return extra.get("members", [])


def _made(extra: Mapping[str, Any]) -> bool:
    """Whether a row is made of other rows, or by a model: it is for training alone, and decides no other row's side."""
    return bool(_members(extra) or extra.get("synthetic"))


class _Counts:
    """Tallies of what was written: rows by task and side, by kind, and by each language that a row has; variants by
    language.
    """

    def __init__(self) -> None:
        self.tasks: dict[str, Counter] = defaultdict(Counter)
        self.sources: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
        self.languages: dict[str, Counter] = defaultdict(Counter)
        self.task_languages: dict[str, Counter] = defaultdict(Counter)
        self.task_kinds: dict[str, Counter] = defaultdict(Counter)
        self.kinds: dict[str, Counter] = defaultdict(Counter)

    def add(self, record: Record, side: str) -> None:
        self.tasks[record.task][side] += 1
        self.sources[record.source][record.task][side] += 1
        kind = f"{_kind(record.queries[0])} -> {_kind(record.positives[0])}"
        self.kinds[record.source][kind] += 1
        self.task_kinds[record.task][kind] += 1
        written = {variant.language for variant in (*record.queries, *record.positives) if variant.language}
        self.task_languages[record.task].update(sorted(written))  # a set has another order in every process
        for variant in (*record.queries, *record.positives):
            if variant.language:
                self.languages[record.source][variant.language] += 1


def _kind(variant: Variant) -> str:
    return "+".join(sorted(variant.content.modalities))


def _write_shards(staged: Sequence[Staged], plan: _Plan, folder: Path, progress: Progress) -> _Counts:
    licences = {item.source.name: item.source.licence for item in staged}
    sources = {item.source.name: item.source for item in staged}
    bar = progress.add_task("write shards", total=sum(map(sum, plan.kept.values())))
    counts = _Counts()
    with ExitStack() as stack:
        writers: dict[tuple[str, str], ShardWriter] = {}
        for record in _records(staged, plan):
            side = plan.side(sources[record.source], record)
            if (record.task, side) not in writers:
                writer = ShardWriter(folder / record.task, record.task, side, licences)
                writers[record.task, side] = stack.enter_context(writer)
            writers[record.task, side].write(record)
            counts.add(record, side)
            progress.advance(bar)
    return counts


def _records(staged: Sequence[Staged], plan: _Plan) -> Iterator[Record]:
    """The rows that are kept, then pairs of a drawing and a photo that come from two sources."""
    pictured = []
    for item in staged:
        for row, record in item.records(iter(plan.kept[item.source.name])):
            if record is None:
                continue
            if not _made(record.extra):
                record = replace(record, concept=plan.concept(row))
            yield record
            if record.task == "image_caption" and plan.pairs_over_sources(record.concept):
                pictured.append(record)
    yield from sketch_pairs(pictured, across=True)


def _manifest(name: str, staged: Sequence[Staged], plan: _Plan, counts: _Counts, state: str) -> dict[str, Any]:
    groups = plan.sides.groups()
    return {
        "version": VERSION,
        "name": name,
        "fingerprint": state,
        "tasks": {task: _sides(tally) for task, tally in sorted(counts.tasks.items())},
        "task_kinds": {task: dict(tally.most_common()) for task, tally in sorted(counts.task_kinds.items())},
        "task_languages": {task: dict(tally.most_common()) for task, tally in sorted(counts.task_languages.items())},
        "sources": {item.source.name: _of_source(item, plan, counts) for item in staged},
        "merged_concepts": {"groups": len(groups), "largest": groups[:_SHOWN_GROUPS]},
    }


def _of_source(item: Staged, plan: _Plan, counts: _Counts) -> dict[str, Any]:
    source = item.source
    flags, made = plan.kept[source.name], plan.made[source.name]
    drops = dict(sorted((why, count) for why, count in item.drops.items() if count))
    repeated = len(flags) - sum(flags) - made
    drops |= {why: count for why, count in ((_DUPLICATE, repeated), (_NOT_TRAINED, made)) if count}
    tasks = {task: _sides(tally) for task, tally in sorted(counts.sources[source.name].items())}
    return {
        "licence": source.licence,
        "provenance": source.provenance,
        "role": source.role,
        "zero_shot_tasks": sorted(task for task in tasks if source.held_out(task)),
        "packages": {package.name: package.version for package in source.packages},
        "bytes": sum(package.bytes for package in source.packages),
        "rows": sum(sum(tally.values()) for tally in tasks.values()),
        "tasks": tasks,
        "kinds": dict(counts.kinds[source.name].most_common()),
        "languages": dict(counts.languages[source.name].most_common()),
        "drops": drops,
        "staged": item.fingerprint,
    }


def _sides(tally: Mapping[str, int]) -> dict[str, int]:
    return {side: tally[side] for side in SPLITS}
