"""From a record to what the model takes: variants drawn, ids hashed, contents turned into pieces.

Every choice comes from one seed a sample, which itself comes from the step and the row: no state, so a resumed run, a
worker more or less, or another rank all see the same sample.
"""

from __future__ import annotations

import random
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from commonspace.content import Content, Video
from commonspace.data.sample import Record, Sample, Variant
from commonspace.errors import ConfigError, ContentError, DataError
from commonspace.processing.pieces import Pieces


class Processing(Protocol):
    """What turns a content into pieces; `commonspace.processing.processor.Processor` is one."""

    def __call__(self, content: Content, task: str | None = None, role: str | None = None) -> Pieces: ...


@dataclass(frozen=True)
class TaskOptions:
    """How the samples of one task are drawn and encoded.

    prompt          task string that goes before text-only queries (see processing/prompts.py); None: none
    prefix_dropout  probability that a query goes without it
    canonical       probability of the canonical variant; the rest is shared evenly by the others
    negatives       hard negatives a sample carries, at most; of each direction
    soundtrack      False: clips are taken without their sound; ids stay those of the clip
    swap            True: the sides of a record change places, and its negatives, which are its query's, are left out
    """

    prompt: str | None = None
    prefix_dropout: float = 0.0
    canonical: float = 0.5
    negatives: int = 1
    soundtrack: bool = True
    swap: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.prefix_dropout <= 1 or not 0 <= self.canonical <= 1 or self.negatives < 0:
            raise ConfigError(f"probabilities lie in 0..1 and counts are not negative: {self}")
        if self.prompt is None and self.prefix_dropout:
            raise ConfigError("prefix_dropout has no effect on a task without a prompt")


@dataclass(frozen=True)
class Encoded:
    """A sample as pieces, with its ids."""

    query: Pieces
    positive: Pieces
    negatives: list[Pieces]
    query_id: int
    positive_id: int
    negative_ids: list[int]
    source: str
    reverse_negatives: list[Pieces] = field(default_factory=list)
    reverse_negative_ids: list[int] = field(default_factory=list)


def sample_seed(step_seed: int, row: int) -> int:
    """Seed of one sample, a mix of the step's seed and the record's row (splitmix64)."""
    mask = (1 << 64) - 1
    value = (step_seed + (row + 1) * 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def draw(
    record: Record,
    seed: int,
    options: TaskOptions,
    source: str = "",
    mined: Sequence[int] = (),
    read: Callable[[int], Record] | None = None,
    mined_reverse: Sequence[int] = (),
) -> Sample:
    """The sample that `seed` makes of a record: one variant a side and some of its hard negatives.

    mined  rows of records whose positives are hard negatives of this one; `read` fetches those that are drawn
    mined_reverse  rows of records whose queries are hard negatives of this one's positive
    A negative equal to the positive is left out: it would be a wrong label.
    """
    rng = random.Random(seed)
    if options.swap:
        record = swapped(record)
    query = _variant(record.queries, options.canonical, rng)
    positive = _variant(record.positives, options.canonical, rng)
    candidates: list[Content | int] = [*record.negatives, *mined]
    chosen = rng.sample(candidates, min(options.negatives, len(candidates)))
    query_id, positive_id = query.content.digest(), positive.content.digest()
    negatives = []
    for choice in chosen:
        content = choice if isinstance(choice, Content) else _same_language(read(int(choice)).positives, positive)
        if content.digest() not in (query_id, positive_id):
            negatives.append(content)
    wrong = rng.sample(list(mined_reverse), min(options.negatives, len(mined_reverse)))
    asked = [_same_language(read(int(row)).queries, query) for row in wrong]
    asked = [content for content in asked if content.digest() not in (query_id, positive_id)]
    return Sample(
        task=record.task,
        query=query.content,
        positive=positive.content,
        negatives=tuple(negatives),
        query_id=query_id,
        positive_id=positive_id,
        negative_ids=tuple(content.digest() for content in negatives),
        source=source or record.key,
        reverse_negatives=tuple(asked),
        reverse_negative_ids=tuple(content.digest() for content in asked),
    )


def swapped(record: Record) -> Record:
    """The record asked from target to query."""
    return replace(record, queries=record.positives, positives=record.queries, negatives=())


def _variant(variants: Sequence[Variant], canonical: float, rng: random.Random) -> Variant:
    first, *others = variants
    return first if not others or rng.random() < canonical else rng.choice(others)


def _same_language(side: Sequence[Variant], wanted: Variant) -> Content:
    """A side of another record, in the language of the one it competes with where there is one."""
    return next((variant for variant in side if variant.language == wanted.language), side[0]).content


def muted(content: Content) -> Content:
    """A content whose clips have no sound."""
    if not any(isinstance(part, Video) for part in content.parts):
        return content
    return Content(
        *(
            Video(part.source, name=part.name, fps=part.fps, sound=False) if isinstance(part, Video) else part
            for part in content.parts
        )
    )


def encode(
    sample: Sample,
    seed: int,
    options: TaskOptions,
    processor: Processing,
    done: MutableMapping[tuple[int, bool], Pieces] | None = None,
) -> Encoded:
    """Process a sample's contents. `done` keeps pieces by content over a batch: nothing is decoded twice in a step.

    The prefix goes on text-only queries and is dropped at random (paper, section 3.2); targets never take one.
    Raises `ContentError` or `DataError` that names the sample and the medium.
    """
    done = {} if done is None else done
    prefixed = options.prompt is not None and sample.query.is_text
    prefixed = prefixed and random.Random(seed ^ 0x5EED).random() >= options.prefix_dropout

    def pieces(content: Content, digest: int, prefix: bool = False) -> Pieces:
        if (digest, prefix) not in done:
            task, role = (options.prompt, "query") if prefix else (None, None)
            heard = content if options.soundtrack else muted(content)
            done[digest, prefix] = processor(heard, task=task, role=role)
        return done[digest, prefix]

    try:
        return Encoded(
            query=pieces(sample.query, sample.query_id, prefixed),
            positive=pieces(sample.positive, sample.positive_id),
            negatives=[pieces(*pair) for pair in zip(sample.negatives, sample.negative_ids, strict=True)],
            query_id=sample.query_id,
            positive_id=sample.positive_id,
            negative_ids=list(sample.negative_ids),
            source=sample.source,
            reverse_negatives=[
                pieces(content, digest, prefixed and content.is_text)
                for content, digest in zip(sample.reverse_negatives, sample.reverse_negative_ids, strict=True)
            ],
            reverse_negative_ids=list(sample.reverse_negative_ids),
        )
    except ContentError as error:
        raise ContentError(f"{sample.source}: {error}") from error
    except DataError as error:
        raise DataError(f"{sample.source}: {error}") from error
