"""Which candidates become negatives: teachers' opinions fused by reciprocal rank, and the named selections.

Relations: Gecko (2403.20327) and Gemini Embedding (2503.07891) rank a query's neighbours by two signals of a language
model, fuse the ranks, and take the lowest as the hard negative. Pure functions over one query's K candidates and T
teachers.
"""

from __future__ import annotations

import numpy as np

from commonspace.mining.options import MiningOptions
from commonspace.mining.rules import above_margin

RANK_CONSTANT = 60  # of Cormack, Clarke and Buettcher (2009): how little the first ranks stand out


def fuse_ranks(scores_TK: np.ndarray, constant: float = RANK_CONSTANT) -> np.ndarray:
    """Reciprocal rank fusion: sum over teachers of 1 / (constant + rank), float64 [K].

    The best score has rank 1; equal scores share the better rank.
    """
    above_TKK = scores_TK[:, :, None] < scores_TK[:, None, :]
    return (1 / (constant + 1 + above_TKK.sum(2))).sum(0)


def order_of(scores_TK: np.ndarray) -> np.ndarray:
    """Candidates from best to worst by the teachers; without any, or between equals, in the order given, int64 [K]."""
    count = scores_TK.shape[1]
    return np.argsort(-fuse_ranks(scores_TK), kind="stable") if len(scores_TK) else np.arange(count)


def judged(scores_TK: np.ndarray, positive_T: np.ndarray, margin: float | None) -> tuple[np.ndarray, np.ndarray]:
    """What teachers take out: candidates that one of them has no score for (NaN), and those above its margin.

    Two masks bool [K] without overlap. With a margin a teacher that has no score for the positive judges nothing.
    """
    unscored_TK = np.isnan(scores_TK)
    if margin is None:
        unscored_K = unscored_TK.any(0)
        return unscored_K, np.zeros_like(unscored_K)
    unscored_K = (unscored_TK | np.isnan(positive_T)[:, None]).any(0)
    above_TK = above_margin(np.nan_to_num(scores_TK), np.nan_to_num(positive_T), margin)
    return unscored_K, above_TK.any(0) & ~unscored_K


def choose(order_K: np.ndarray, position_K: np.ndarray, options: MiningOptions, seed: int) -> np.ndarray:
    """At most `options.count` candidates, as places [C] in the order they are kept.

    order_K     candidates from best to worst
    position_K  each candidate's rank, from 1: the one that `selection=rank` counts by
    top     the best
    lowest  the worst, worst first
    rank    those of rank `options.rank` and beyond, best first
    random  drawn evenly by `seed`, best first
    """
    if options.selection == "lowest":
        return order_K[::-1][: options.count]
    if options.selection == "rank":
        return order_K[position_K[order_K] >= (options.rank or 1)][: options.count]
    if options.selection == "random":
        generator = np.random.default_rng(seed)
        drawn = generator.choice(len(order_K), size=min(options.count, len(order_K)), replace=False)
        return order_K[np.sort(drawn)]
    return order_K[: options.count]


def select(
    scores_TK: np.ndarray, positive_T: np.ndarray, ranks_K: np.ndarray, options: MiningOptions, seed: int
) -> tuple[np.ndarray, dict[str, int]]:
    """A query's negatives as places among its candidates (best first by `ranks_K`), and what teachers took out."""
    unscored_K, above_K = judged(scores_TK, positive_T, options.teacher_margin)
    left = np.flatnonzero(~unscored_K & ~above_K)
    ordering_TK = scores_TK if options.order == "teachers" else scores_TK[:0]
    order = order_of(ordering_TK[:, left])
    position = np.empty(len(left), dtype=np.int64)
    position[order] = np.arange(1, len(left) + 1)
    chosen = choose(order, position if len(ordering_TK) else ranks_K[left], options, seed)
    return left[chosen], {"unscored": int(unscored_K.sum()), "teacher_margin": int(above_K.sum())}
