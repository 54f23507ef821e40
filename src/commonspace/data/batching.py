"""How one epoch of one task is ordered and cut into batches: little padding, no two records of one concept together."""

from __future__ import annotations

import numpy as np


def spread_order(length: int, concepts: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """A random order of 0..length-1 in which the records of one concept lie evenly apart, int64 [length].

    The r-th of n records of a concept goes to place (r + u) / n of the epoch, u drawn once a concept: any stretch of
    the epoch then has as few of them as possible. Concepts with one record lie anywhere.
    """
    order = rng.permutation(length)
    if concepts is None:
        return order
    _, codes = np.unique(concepts, return_inverse=True)
    counts = np.bincount(codes)
    start = rng.random(len(counts))
    by_concept = order[np.argsort(codes[order], kind="stable")]
    firsts = np.repeat(np.cumsum(counts) - counts, counts)
    rank = np.arange(length) - firsts
    code = codes[by_concept]
    return by_concept[np.argsort((rank + start[code]) / counts[code], kind="stable")]


def window_batches(
    rows: np.ndarray,
    batch_size: int,
    tokens: np.ndarray | None,
    concepts: np.ndarray | None,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Cut `rows` into batches of similar length without a concept twice where that can be had, in random order.

    `rows` holds a whole number of batches; each comes back once. Inside a batch the order is random, so that ranks
    that take consecutive slices get contents of the same lengths on average.
    """
    rows = rows[rng.permutation(len(rows))]
    count = len(rows) // batch_size
    if tokens is not None and count > 1:
        rows = rows[np.argsort(tokens[rows], kind="stable")]
    batches = rows.reshape(count, batch_size)
    if concepts is not None and count > 1:
        batches = _separate(batches, concepts[rows].reshape(count, batch_size))
    return [rng.permutation(batches[number]) for number in rng.permutation(count)]


def _separate(batches: np.ndarray, concepts: np.ndarray) -> np.ndarray:
    """Swap records between batches, nearest first, until no batch has a concept twice or no swap helps.

    Only records that repeat a concept of their batch move, so batches stay sorted by length but for these.
    """
    batches, concepts = batches.copy(), concepts.copy()
    members = [_counts(row) for row in concepts]
    for number in range(len(batches)):
        for place in _repeats(concepts[number]):
            other = _partner(number, place, concepts, members)
            if other is None:
                continue
            there, spot = other
            mine, theirs = concepts[number, place], concepts[there, spot]
            for counts, lost, won in ((members[number], mine, theirs), (members[there], theirs, mine)):
                counts[lost] -= 1
                counts[won] = counts.get(won, 0) + 1
            concepts[number, place], concepts[there, spot] = theirs, mine
            batches[number, place], batches[there, spot] = batches[there, spot], batches[number, place].copy()
    return batches


def _counts(row: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(row, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _repeats(row: np.ndarray) -> list[int]:
    """Places of a batch whose concept an earlier place already has."""
    _, firsts = np.unique(row, return_index=True)
    return np.setdiff1d(np.arange(len(row)), firsts).tolist()


def _partner(number: int, place: int, concepts: np.ndarray, members: list[dict[int, int]]) -> tuple[int, int] | None:
    """A place in the nearest batch to swap with, so that neither batch gains a repeat; None if there is none."""
    mine = int(concepts[number, place])
    for distance in range(1, len(concepts)):
        for there in (number + distance, number - distance):
            if not 0 <= there < len(concepts) or members[there].get(mine, 0):
                continue
            spots = range(concepts.shape[1])
            for spot in spots if there > number else reversed(spots):  # the ends that lie nearest in length
                if not members[number].get(int(concepts[there, spot]), 0):
                    return there, spot
    return None
