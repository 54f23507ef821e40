"""What training sees of a shard: a record on disk, and the sample drawn from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from commonspace.content import Content


@dataclass(frozen=True)
class Variant:
    """One way to say one side of a record: a caption in one language, say."""

    content: Content
    language: str | None = None


@dataclass(frozen=True)
class Record:
    """A pair as it lies in a shard. Either side may have several variants; the first is the canonical one.

    `concept` decides the split and which gallery items count as correct. `extra` holds what only evaluation or
    reports need (category, page, licence, whether the clip has sound ...), JSON values only.
    """

    key: str
    task: str
    source: str
    concept: str
    queries: tuple[Variant, ...]
    positives: tuple[Variant, ...]
    negatives: tuple[Content, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One training example, variants drawn. Ids hash raw content (`Content.digest`); `source` is "shard:key".

    `reverse_negatives` are wrong queries for the positive, for objectives that also go from target to query.
    """

    task: str
    query: Content
    positive: Content
    negatives: tuple[Content, ...]
    query_id: int
    positive_id: int
    negative_ids: tuple[int, ...]
    source: str
    reverse_negatives: tuple[Content, ...] = ()
    reverse_negative_ids: tuple[int, ...] = ()
