"""Which neighbours of a query may stand as wrong answers: each rule a pure function, what it takes out counted.

Relations: NV-Retriever's (2407.15831) margins, relative and absolute, and its window of ranks; equation 3 of the paper
masks equal contents in a batch, here they never enter a list. Legend: Q queries, K neighbours, N pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from commonspace.mining.options import MiningOptions

NOTHING = 0  # code of a side that is no text: equal to no other
KNOWN_CORRECT = ("self", "same_id", "same_concept", "same_text")
OF_SCORES = ("above_window", "margin", "absolute_margin", "max_score", "min_score", "duplicate", "repeated")
OF_TEACHERS = ("unscored", "teacher_margin")
RULES = (*KNOWN_CORRECT, *OF_SCORES, *OF_TEACHERS)
LEFT, BEYOND = -1, -2  # neighbours that no rule took, and those past the window
Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]  # rows [P], other rows [P] -> cosines of their targets [P]


@dataclass(frozen=True)
class Identities:
    """What decides whether two pairs answer each other, as codes: equal means the same. int64 arrays [N].

    query_ids, target_ids  hashes of raw contents
    concepts               of the concept, or whatever counts as one in this task
    query_texts, target_texts  of normalised text; NOTHING where a side is not text alone
    """

    query_ids: np.ndarray
    target_ids: np.ndarray
    concepts: np.ndarray
    query_texts: np.ndarray
    target_texts: np.ndarray

    def known_correct(self, rows_Q: np.ndarray, found_QK: np.ndarray) -> dict[str, np.ndarray]:
        """For each rule which of the found rows it names, bool [Q, K]; a row may fall under several."""
        own = [values[rows_Q][:, None] for values in (self.query_texts, self.target_texts)]
        theirs = [values[found_QK] for values in (self.query_texts, self.target_texts)]
        return {
            "self": found_QK == rows_Q[:, None],
            "same_id": (self.query_ids[found_QK] == self.query_ids[rows_Q][:, None])
            | (self.target_ids[found_QK] == self.target_ids[rows_Q][:, None]),
            "same_concept": self.concepts[found_QK] == self.concepts[rows_Q][:, None],
            "same_text": np.logical_or.reduce([(a == b) & (a != NOTHING) for a in own for b in theirs]),
        }

    def most_correct(self) -> int:
        """An upper bound of how many rows any row knows to be correct."""
        columns = (self.query_ids, self.target_ids, self.concepts)
        most = sum(int(np.unique(column, return_counts=True)[1].max()) for column in columns)
        texts = np.concatenate([self.query_texts, self.target_texts])
        texts = texts[texts != NOTHING]
        return most + (int(np.unique(texts, return_counts=True)[1].max()) if len(texts) else 0)


@dataclass(frozen=True)
class Candidates:
    """What the rules leave of each query's neighbours, ragged, best first.

    rows int64 [M], scores float32 [M], ranks int32 [M] (from 1, among what is not known to be correct), counts [Q]
    fate_QK int8: what became of each neighbour, the number of the rule in `RULES` that took it, or LEFT, or BEYOND
    """

    rows: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    counts: np.ndarray
    fate_QK: np.ndarray

    @property
    def dropped(self) -> dict[str, int]:
        """Neighbours that each rule took out."""
        return {rule: int((self.fate_QK == number).sum()) for number, rule in enumerate(RULES)}


def above_margin(scores_QK: np.ndarray, positive_Q: np.ndarray, share: float) -> np.ndarray:
    """Scores above s+ - (1 - share) |s+|, bool [Q, K]: `share` of a positive score where that is above 0.

    Of a score below 0 the plain product would raise the bar.
    """
    return scores_QK > (positive_Q - (1 - share) * np.abs(positive_Q))[:, None]


def within_distance(scores_QK: np.ndarray, positive_Q: np.ndarray, distance: float) -> np.ndarray:
    """Scores above s+ - distance, bool [Q, K]."""
    return scores_QK > (positive_Q - distance)[:, None]


def ranks_of_free(free_QK: np.ndarray) -> np.ndarray:
    """Rank of each neighbour among the free ones, from 1; one that is not free has that of the free one before it."""
    return np.cumsum(free_QK, axis=1)


def duplicates(
    rows_Q: np.ndarray, found_QK: np.ndarray, left_QK: np.ndarray, threshold: float, similarity: Similarity
) -> np.ndarray:
    """Neighbours, among those left, whose target is nearer than `threshold` to the query's own target, bool [Q, K]."""
    out_QK = np.zeros_like(left_QK)
    queries, places = np.nonzero(left_QK)
    out_QK[queries, places] = similarity(rows_Q[queries], found_QK[queries, places]) > threshold
    return out_QK


def first_of_each(ids_K: np.ndarray) -> np.ndarray:
    """Places of the first occurrence of each id, in order."""
    return np.sort(np.unique(ids_K, return_index=True)[1])


def apply_rules(
    rows_Q: np.ndarray,
    found_QK: np.ndarray,
    scores_QK: np.ndarray,
    positive_Q: np.ndarray,
    identities: Identities,
    options: MiningOptions,
    similarity: Similarity | None = None,
) -> Candidates:
    """The wrong answers among found rows (best first) of the queries `rows_Q`, whose positives score `positive_Q`.

    Only ranks up to `options.depth` are looked at and counted, and each neighbour counts for the first rule that takes
    it. A score of -inf is no neighbour. `similarity` is asked where `options.duplicate` is set.
    """
    correct = identities.known_correct(rows_Q, found_QK)
    free_QK = ~np.logical_or.reduce(list(correct.values()))
    rank_QK = ranks_of_free(free_QK)
    seen_QK = (np.where(free_QK, rank_QK, rank_QK + 1) <= options.depth) & np.isfinite(scores_QK)
    fate_QK = np.where(seen_QK, LEFT, BEYOND).astype(np.int8)
    for rule, taken_QK in {**correct, **_by_score(scores_QK, positive_Q, rank_QK, options)}.items():
        fate_QK[(fate_QK == LEFT) & taken_QK] = RULES.index(rule)
    if options.duplicate is not None and similarity is not None:
        taken_QK = duplicates(rows_Q, found_QK, fate_QK == LEFT, options.duplicate, similarity)
        fate_QK[taken_QK] = RULES.index("duplicate")
    for query in range(len(rows_Q)):
        places = np.flatnonzero(fate_QK[query] == LEFT)
        firsts = first_of_each(identities.target_ids[found_QK[query, places]])
        fate_QK[query, np.delete(places, firsts)] = RULES.index("repeated")
    left = np.nonzero(fate_QK == LEFT)
    counts = (fate_QK == LEFT).sum(1)
    return Candidates(found_QK[left], scores_QK[left], rank_QK[left].astype(np.int32), counts, fate_QK)


def _by_score(
    scores_QK: np.ndarray, positive_Q: np.ndarray, rank_QK: np.ndarray, options: MiningOptions
) -> dict[str, np.ndarray]:
    """The rules that look at ranks and scores alone, those that are on."""
    takes = {"above_window": rank_QK <= options.skip}
    if options.margin is not None:
        takes["margin"] = above_margin(scores_QK, positive_Q, options.margin)
    if options.absolute_margin is not None:
        takes["absolute_margin"] = within_distance(scores_QK, positive_Q, options.absolute_margin)
    if options.max_score is not None:
        takes["max_score"] = scores_QK > options.max_score
    if options.min_score is not None:
        takes["min_score"] = scores_QK < options.min_score
    return takes


def code(name: str | None) -> int:
    """A name as 64 bits that are never `NOTHING`; None as `NOTHING`."""
    if name is None:
        return NOTHING
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True) or 1
