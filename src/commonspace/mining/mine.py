"""Hard negatives of one task: embed, search, apply the rules, write.

Queries and targets are the canonical sides of training records, of any modality. A negative is a record's key: the
loader takes that record's positive, in the language the training sample is drawn in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.progress import track

from commonspace.content import Content, Text
from commonspace.data.negatives import write_negatives
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import ContentError, DataError
from commonspace.evaluation.relevance import name_of, normalise
from commonspace.mining.rules import RULES, Identities, MiningOptions, apply_rules, identities_of
from commonspace.mining.search import neighbours

_CHUNK = 256  # records decoded at once
_WIDEST = 2048  # neighbours looked up a query, at most


class Embeds(Protocol):
    """What ranks: `commonspace.models.embedder.Embedder` is one."""

    def embed(self, contents: Iterable[Content], **options: object) -> np.ndarray:
        """Unit rows float32 [N, E]."""


@dataclass
class Mined:
    """What mining one task gave: for each usable record the keys and scores of its negatives, and how it came about.

    dropped   neighbours taken out, by rule
    positives scores of each record's own positive, in the order of `negatives`
    skipped   one message for each record that could not be embedded
    """

    task: str
    options: MiningOptions
    negatives: dict[str, list[str]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)
    positives: list[float] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    skipped: list[str] = field(default_factory=list)


def mine(
    embedder: Embeds,
    reader: ShardReader,
    options: MiningOptions,
    *,
    match: str = "concept",
    prompt: str | None = None,
    batch_tokens: int = 8192,
    progress: bool = True,
) -> Mined:
    """Hard negatives of every record of `reader`.

    match   what counts as one concept: "concept"; "pair", where a concept holds many things (a page, a module) and only
            the record's own partner answers; "relation", the concept under the words of the query
    prompt  task prefix of text-only queries
    Raises `DataError` where the reader is not a training split (held-out items must not be mined) or holds one record.
    """
    if reader.split != "train":
        raise DataError(f"{reader!r}: negatives are mined on the train split only")
    mined = Mined(reader.task, options)
    table = _Table(concept_of(match))
    chunks = _chunks(reader, _CHUNK)
    total = -(-len(reader) // _CHUNK)
    for chunk in track(chunks, f"embedding {reader.task}", total=total, disable=not progress):
        table.add(chunk, embedder, prompt, batch_tokens, mined.skipped)
    if len(table.keys) < 2:
        raise DataError(f"{reader!r}: {len(table.keys)} records could be embedded, mining needs two at least")
    query_NE, target_NE = table.vectors()
    identities = table.identities()
    width = min(_WIDEST, options.depth + identities.most_correct())
    for rows_Q, found_QK, scores_QK, own_Q in neighbours(query_NE, target_NE, width):
        kept = apply_rules(rows_Q, found_QK, scores_QK, own_Q, identities, options)
        for row, found, scores in zip(rows_Q, kept.rows, kept.scores, strict=True):
            mined.negatives[table.keys[row]] = [table.keys[other] for other in found]
            mined.scores[table.keys[row]] = scores.tolist()
        mined.positives.extend(own_Q.tolist())
        for rule, number in kept.dropped.items():
            mined.dropped[rule] += number
    return mined


def write_mined(folder: Path, reader: ShardReader, mined: Mined) -> Path:
    """`<folder>/<task>.parquet`, for the loader."""
    path = folder / f"{reader.task}.parquet"
    write_negatives(path, reader, mined.negatives, mined.scores)
    return path


def concept_of(match: str) -> Callable[[Record], str]:
    """What counts as one concept, as evaluation matches: see `evaluation.relevance.labels_of`."""
    if match == "concept":
        return lambda record: record.concept
    if match == "pair":
        return lambda record: f"{record.source}\0{record.key}"
    if match == "relation":
        return lambda record: f"{record.concept}\0{normalise(_words(record.queries[0].content))}"
    raise DataError(f"match={match!r}: use concept, pair or relation")


def _words(content: Content) -> str:
    return " ".join(part.text for part in content.parts if isinstance(part, Text))


class _Table:
    """Vectors and identities of the records seen so far, without their media."""

    def __init__(self, concept: Callable[[Record], str]) -> None:
        self.concept = concept
        self.keys: list[str] = []
        self._queries: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []
        self._identities: list[Identities] = []

    def add(
        self, records: Sequence[Record], embedder: Embeds, prompt: str | None, batch_tokens: int, skipped: list[str]
    ) -> None:
        """Embed both sides of some records; those that cannot be read are named and left out."""
        role = "query" if prompt else None

        def embed(chosen: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
            queries = [record.queries[0].content for record in chosen]
            targets = [record.positives[0].content for record in chosen]
            return (
                embedder.embed(queries, task=prompt, role=role, batch_tokens=batch_tokens),
                embedder.embed(targets, batch_tokens=batch_tokens),
            )

        try:
            found = [embed(records)] if records else []
        except ContentError:  # find out which, one by one
            records, found = list(records), []
            for record in list(records):
                try:
                    found.append(embed([record]))
                except ContentError as error:
                    skipped.append(f"{record.key}: {error}")
                    records.remove(record)
        self.keys += [record.key for record in records]
        self._queries += [query for query, _ in found]
        self._targets += [target for _, target in found]
        ids = [(r, r.queries[0].content.digest(), r.positives[0].content.digest()) for r in records]
        self._identities.append(identities_of(ids, self.concept, name_of))

    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries and targets, float32 [N, E] each."""
        return torch.from_numpy(np.concatenate(self._queries)), torch.from_numpy(np.concatenate(self._targets))

    def identities(self) -> Identities:
        """Of all records."""
        columns = {item.name: [getattr(part, item.name) for part in self._identities] for item in fields(Identities)}
        return Identities(**{name: np.concatenate(parts) for name, parts in columns.items()})


def _chunks(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, size)):
        yield chunk
