"""The held-out suite: shards of pairs turned into retrieval tasks with a pool, a direction and a rule of what is right.

One `TaskSpec` says how one task on disk is asked in one direction. Filters (near-duplicates, language, source, one
query a concept) drop queries, never gallery items. Where items of one language or one action compete only among
themselves the task is grouped, and the pool of a query is its group.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from commonspace.content import Content
from commonspace.data.encoding import muted
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.data.storage import RemoteFolder
from commonspace.errors import DataError
from commonspace.evaluation.relevance import Relevance, labels_of
from commonspace.evaluation.specs import SPECS, TaskSpec


@dataclass(frozen=True)
class EvalTask:
    """One retrieval task. Lists of queries have Q entries, lists of items G.

    concepts decide what an interval resamples; units decide "one query a concept" (they differ from concepts only
    where a concept is a mesh family, which would leave a handful of queries).
    targets are digests of each query's own positive: near-duplicates are looked for on both sides of a pair.
    """

    name: str
    suite: str
    split: str
    direction: str
    queries: tuple[Content, ...]
    gallery: tuple[Content, ...]
    relevance: Relevance
    keys: tuple[str, ...]
    concepts: tuple[str, ...]
    units: tuple[str, ...]
    languages: tuple[str, ...]
    sources: tuple[str, ...]
    query_groups: tuple[str, ...]
    gallery_groups: tuple[str, ...]
    query_digests: np.ndarray
    gallery_digests: np.ndarray
    targets: np.ndarray
    prompt: str | None = None
    grouped: bool = False
    zero_shot: bool = False
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.name} {self.direction}"

    @property
    def pools(self) -> np.ndarray:
        """How many gallery items each query is ranked against, int64 [Q]."""
        sizes = Counter(self.gallery_groups)
        return np.array([sizes[group] for group in self.query_groups], dtype=np.int64)


@dataclass(frozen=True)
class Suite:
    """Tasks that are scored together, and the names of those whose shards this tier does not have."""

    name: str
    split: str
    tasks: tuple[EvalTask, ...]
    absent: tuple[str, ...] = ()

    def task(self, name: str, direction: str) -> EvalTask:
        """The ungrouped task of that name and direction."""
        for task in self.tasks:
            if (task.name, task.direction, task.grouped) == (name, direction, False):
                return task
        raise DataError(f"suite {self.name}: no task {name} {direction}; it has {[t.label for t in self.tasks]}")


@dataclass
class _Pair:
    record: Record
    query: Content
    positive: Content
    language: str
    group: str


def build_suite(
    root: Path | RemoteFolder, split: str = "heldout", tasks: Sequence[str] | None = None, limit: int | None = None
) -> Suite:
    """Read the shards under `root` (<data>/<tier>) into tasks.

    tasks  names of shards to use; None takes all that exist and names the others of our tiers in `Suite.absent`
    limit  at most so many records a task, chosen by hash of the key (for quick looks on dev; never for headlines)
    Raises DataError where a task asked for by name has no such split, or where nothing is left to score.
    """
    folders = {spec.shard for spec in SPECS}
    if unknown := set(tasks or ()) - folders:
        raise DataError(f"unknown evaluation tasks {sorted(unknown)}; there are {sorted(folders)}")
    built: list[EvalTask] = []
    absent: list[str] = []
    for shard in sorted(folders if tasks is None else set(tasks)):
        if tasks is None and not (root / shard / f"{split}.json").exists():
            absent += [shard] if any(spec.shard == shard and not spec.own for spec in SPECS) else []
            continue
        records = _chosen(ShardReader(root / shard, split), limit)
        for spec in SPECS:
            if spec.shard == shard and (split == "heldout" or not spec.zero_shot):
                task = build_task(spec, records, split)
                built += [task] if task else []
    if not built:
        own = " own PAIRS.jsonl" if root.name == "own" else ""
        raise DataError(f"{root}: no {split} split to evaluate on; run `commonspace data build{own}` first")
    return Suite(split, split, tuple(built), tuple(absent))


def _chosen(reader: ShardReader, limit: int | None) -> list[Record]:
    rows: Iterable[int] = range(len(reader))
    if limit is not None and limit < len(reader):
        order = sorted(rows, key=lambda row: _spread(str(reader.column("key")[row])))
        rows = sorted(order[:limit])
    return [reader.read(row) for row in rows]


def _spread(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=8).digest()


def build_task(spec: TaskSpec, records: Sequence[Record], split: str) -> EvalTask | None:
    """One task out of its records; None where the records hold nothing for it (no sounds, one language only)."""
    pairs = _capped([pair for record in records for pair in _pairs(spec, record)], spec.most)
    if spec.group == "language":
        pairs = _without_small_groups(pairs, spec.least)
        if len({pair.group for pair in pairs}) < 2:
            return None
    if not pairs:
        return None
    queries, items = _Side(), _Side()
    for pair in pairs:
        labels = labels_of(pair.record, pair.query, pair.positive, spec.match)
        asked, given = (pair.positive, pair.query) if spec.reverse else (pair.query, pair.positive)
        given_digest = items.add(given, pair, labels)
        queries.add(asked, pair, labels, target=given_digest)
    return _assemble(spec, split, queries, items)


def _pairs(spec: TaskSpec, record: Record) -> Iterator[_Pair]:
    """The pairs of a record this spec asks about: the canonical one, or every language's."""
    every = spec.group == "language"
    for query in record.queries if every else record.queries[:1]:
        for positive in record.positives if every else record.positives[:1]:
            language = str(record.extra.get("language") or positive.language or query.language or "")
            if spec.group == "action":
                if not record.extra.get("has_sound"):
                    continue
                group = str(record.extra["action"])
            else:
                group = language if every else ""
            contents = (query.content, positive.content)
            if spec.mute:
                contents = tuple(muted(content) for content in contents)
            yield _Pair(record, *contents, language, group)


def _capped(pairs: list[_Pair], most: int | None) -> list[_Pair]:
    """At most so many pairs of each group, in their old order."""
    if most is None:
        return pairs
    by_group: dict[str, list[int]] = defaultdict(list)
    for row in sorted(range(len(pairs)), key=lambda row: _spread(pairs[row].record.key)):
        by_group[pairs[row].group].append(row)
    return [pairs[row] for row in sorted(row for rows in by_group.values() for row in rows[:most])]


def _without_small_groups(pairs: list[_Pair], least: int) -> list[_Pair]:
    sizes = Counter(pair.group for pair in pairs)
    return [pair for pair in pairs if pair.group and sizes[pair.group] >= least]


class _Side:
    """Contents of one side, each once in its group, with the labels of every pair it occurs in."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], int] = {}
        self.contents: list[Content] = []
        self.pairs: list[_Pair] = []
        self.labels: list[set[str]] = []
        self.digests: list[int] = []
        self.targets: list[int] = []

    def add(self, content: Content, pair: _Pair, labels: frozenset[str], target: int = 0) -> int:
        digest = content.digest()
        row = self.rows.setdefault((pair.group, digest), len(self.contents))
        if row == len(self.contents):
            self.contents.append(content)
            self.pairs.append(pair)
            self.labels.append(set())
            self.digests.append(digest)
            self.targets.append(target)
        self.labels[row] |= labels
        return digest


def _assemble(spec: TaskSpec, split: str, queries: _Side, items: _Side) -> EvalTask | None:
    """Queries that lie in their own pool word for word (untranslated text) ask nothing: dropped and counted."""
    kept = [row for row, pair in enumerate(queries.pairs) if (pair.group, queries.digests[row]) not in items.rows]
    if not kept:
        return None
    pairs = [queries.pairs[row] for row in kept]
    groups = tuple(pair.group for pair in pairs)
    item_groups = tuple(pair.group for pair in items.pairs)
    return EvalTask(
        name=spec.name,
        suite=split,
        split=split,
        direction=spec.direction,
        queries=tuple(queries.contents[row] for row in kept),
        gallery=tuple(items.contents),
        relevance=Relevance.from_labels([queries.labels[row] for row in kept], items.labels, groups, item_groups),
        keys=tuple(f"{pair.record.key}:{pair.language}" for pair in pairs),
        concepts=tuple(pair.record.concept for pair in pairs),
        units=tuple(_unit(spec, pair) for pair in pairs),
        languages=tuple(pair.language for pair in pairs),
        sources=tuple(pair.record.source for pair in pairs),
        query_groups=groups,
        gallery_groups=item_groups,
        query_digests=np.array([queries.digests[row] for row in kept], dtype=np.int64),
        gallery_digests=np.array(items.digests, dtype=np.int64),
        targets=np.array([queries.targets[row] for row in kept], dtype=np.int64),
        prompt=spec.prompt,
        grouped=bool(spec.group),
        zero_shot=spec.zero_shot,
        dropped={"query is in its own pool": len(queries.contents) - len(kept)},
    )


def _unit(spec: TaskSpec, pair: _Pair) -> str:
    return f"{pair.record.concept}:{pair.record.key}" if spec.unit == "pair" else pair.record.concept
