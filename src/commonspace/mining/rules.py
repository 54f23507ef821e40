"""Which neighbours of a query may stand as wrong answers: each rule that takes one out, counted.

Relations: NV-Retriever's positive-aware margin (95% of the positive's score) and a window of ranks; equation 3 of the
paper masks equal contents in a batch, here they never enter a list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from commonspace.content import Content
from commonspace.data.sample import Record
from commonspace.errors import ConfigError

NOTHING = 0  # code of a side that is no text: equal to no other
KNOWN_CORRECT = ("self", "same_id", "same_concept", "same_text")
RULES = (*KNOWN_CORRECT, "above_window", "margin", "repeated")


@dataclass(frozen=True)
class MiningOptions:
    """count   hard negatives kept a query, at most
    skip    ranks left out at the top, counted among what is not known to be correct
    depth   last rank that is looked at
    margin  a neighbour scoring above `margin` x the positive's score is taken for another correct answer; None: no rule
    """

    count: int = 4
    skip: int = 0
    depth: int = 100
    margin: float | None = 0.95

    def __post_init__(self) -> None:
        if self.count < 1 or self.skip < 0 or self.depth < self.skip + self.count:
            raise ConfigError(f"mining keeps count of the ranks skip+1..depth; these do not fit: {self}")
        if self.margin is not None and not 0 < self.margin <= 1:
            raise ConfigError(f"mining margin must lie in (0, 1], not {self.margin}")


@dataclass(frozen=True)
class Identities:
    """What decides whether two pairs answer each other, as codes: equal means the same. int64 arrays [N].

    query_ids, positive_ids  hashes of raw contents
    concepts                 of the concept, or whatever counts as one in this task
    query_texts, positive_texts  of normalised text; NOTHING where a side is not text alone
    """

    query_ids: np.ndarray
    positive_ids: np.ndarray
    concepts: np.ndarray
    query_texts: np.ndarray
    positive_texts: np.ndarray

    def known_correct(self, rows_Q: np.ndarray, found_QK: np.ndarray) -> dict[str, np.ndarray]:
        """For each rule which of the found rows it names, bool [Q, K]; a row may fall under several."""
        own = [values[rows_Q][:, None] for values in (self.query_texts, self.positive_texts)]
        theirs = [values[found_QK] for values in (self.query_texts, self.positive_texts)]
        return {
            "self": found_QK == rows_Q[:, None],
            "same_id": (self.query_ids[found_QK] == self.query_ids[rows_Q][:, None])
            | (self.positive_ids[found_QK] == self.positive_ids[rows_Q][:, None]),
            "same_concept": self.concepts[found_QK] == self.concepts[rows_Q][:, None],
            "same_text": np.logical_or.reduce([(a == b) & (a != NOTHING) for a in own for b in theirs]),
        }

    def most_correct(self) -> int:
        """An upper bound of how many rows any row knows to be correct."""
        columns = (self.query_ids, self.positive_ids, self.concepts)
        most = sum(int(np.unique(column, return_counts=True)[1].max()) for column in columns)
        texts = np.concatenate([self.query_texts, self.positive_texts])
        texts = texts[texts != NOTHING]
        return most + (int(np.unique(texts, return_counts=True)[1].max()) if len(texts) else 0)


@dataclass(frozen=True)
class Kept:
    """What one block of queries keeps: rows and scores of each, best first, and what each rule took out."""

    rows: list[np.ndarray]
    scores: list[np.ndarray]
    dropped: dict[str, int]


def apply_rules(
    rows_Q: np.ndarray,
    found_QK: np.ndarray,
    scores_QK: np.ndarray,
    positive_Q: np.ndarray,
    identities: Identities,
    options: MiningOptions,
) -> Kept:
    """Keep the wrong answers among found rows (best first) of the queries `rows_Q`, whose positives score `positive_Q`.

    Only ranks up to `options.depth` are looked at and counted.
    """
    correct = identities.known_correct(rows_Q, found_QK)
    free_QK = ~np.logical_or.reduce(list(correct.values()))
    rank_QK = np.cumsum(free_QK, axis=1)
    seen_QK = np.where(free_QK, rank_QK, rank_QK + 1) <= options.depth
    dropped, left_QK = dict.fromkeys(RULES, 0), seen_QK.copy()
    limit_Q1 = np.inf if options.margin is None else (options.margin * positive_Q)[:, None]
    takes = {**correct, "above_window": rank_QK <= options.skip, "margin": scores_QK > limit_Q1}
    for rule, taken_QK in takes.items():
        dropped[rule] = int((left_QK & taken_QK).sum())
        left_QK &= ~taken_QK
    rows, scores = [], []
    for query in range(len(rows_Q)):
        places = np.flatnonzero(left_QK[query])
        _, firsts = np.unique(identities.positive_ids[found_QK[query, places]], return_index=True)
        dropped["repeated"] += len(places) - len(firsts)
        places = places[np.sort(firsts)][: options.count]
        rows.append(found_QK[query, places])
        scores.append(scores_QK[query, places])
    return Kept(rows, scores, dropped)


def identities_of(
    records: Sequence[tuple[Record, int, int]],
    concept: Callable[[Record], str],
    text: Callable[[Content], str | None],
) -> Identities:
    """Codes of records, each with the ids of its query and positive.

    concept  what counts as one concept in this task
    text     the normalised text of a content that is text alone, else None
    """
    return Identities(
        query_ids=np.array([query_id for _, query_id, _ in records], dtype=np.int64),
        positive_ids=np.array([positive_id for _, _, positive_id in records], dtype=np.int64),
        concepts=np.array([_code(concept(record)) for record, _, _ in records], dtype=np.int64),
        query_texts=np.array([_code(text(record.queries[0].content)) for record, _, _ in records], dtype=np.int64),
        positive_texts=np.array([_code(text(record.positives[0].content)) for record, _, _ in records], dtype=np.int64),
    )


def _code(name: str | None) -> int:
    if name is None:
        return NOTHING
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True) or 1
