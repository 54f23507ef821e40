"""Which of many pictures, texts or sounds are near to which: by candidates that share a band, then measured.

`earliest_*` gives each item the first one that it is near to and that is itself near to none before it; `near_*` says
of each item whether it is near to any of another collection.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from commonspace.evaluation.fingerprints import audio_agreement, audio_matches, hash_matches
from data_prep.quality import minhash

_PAIRS = 65_536  # compared at once: of signatures 2 x 16 MiB
_SOME = 64
_ROWS = 4096
_BLOCK = 512  # sounds
Near = Callable[[int, np.ndarray], np.ndarray]  # of a row and some earlier ones: bool, to which it is near


def earliest_image(hashes_N: np.ndarray, distance: int) -> np.ndarray:
    """Of perceptual hashes, uint64 [N]: int64 [N]. Exact: hashes within `distance` share one of distance + 1 pieces."""
    values, first, back = np.unique(hashes_N, return_index=True, return_inverse=True)
    order = np.argsort(first)  # distinct hashes in the order in which they first come
    distinct = values[order]

    def near(row: int, earlier: np.ndarray) -> np.ndarray:
        return np.bitwise_count(distinct[earlier] ^ distinct[row]) <= distance

    return _of_all(_representatives(_pieces(distinct, distance + 1), near), first, order, back)


def near_image(hashes_N: np.ndarray, others_M: np.ndarray, distance: int) -> np.ndarray:
    """bool [N]: whether a hash lies within `distance` of any of the others."""
    if not len(others_M):
        return np.zeros(len(hashes_N), bool)
    blocks = [
        hash_matches(_bits(hashes_N[start : start + _ROWS]), _bits(others_M), distance) >= 0
        for start in range(0, len(hashes_N), _ROWS)
    ]
    return np.concatenate(blocks) if blocks else np.zeros(0, bool)


def earliest_text(signatures_NP: np.ndarray, least: float) -> np.ndarray:
    """Of MinHash signatures, uint32 [N, 64]: int64 [N], by an estimated share of at least `least`."""
    values, first, back = np.unique(signatures_NP, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    distinct = values[order]

    def near(row: int, earlier: np.ndarray) -> np.ndarray:
        return minhash.shared(distinct[row][None], distinct[earlier]) >= least

    return _of_all(_representatives(minhash.bands(distinct), near), first, order, back.ravel())


def near_text(signatures_NP: np.ndarray, others_MP: np.ndarray, least: float) -> np.ndarray:
    """bool [N]: whether a signature shares at least `least` with any of the others."""
    found = np.zeros(len(signatures_NP), bool)
    for mine_N, theirs_M in zip(minhash.bands(signatures_NP), minhash.bands(others_MP), strict=True):
        for rows, others in _meetings(mine_N, theirs_M):
            for start in range(0, len(others), _SOME):  # most that are near to any are to one of the first, then done
                for one, other in _pairs_of(rows[~found[rows]], others[start : start + _SOME]):
                    found[one[minhash.shared(signatures_NP[one], others_MP[other]) >= least]] = True
    return found


def earliest_sound(prints: Sequence[np.ndarray], least: float) -> np.ndarray:
    """Of audio fingerprints: int64 [N]. Every pair is compared, so the time grows with the square of their number."""
    found = np.arange(len(prints))
    for start in range(0, len(prints), _BLOCK):
        block = list(prints[start : start + _BLOCK])
        for other in range(0, start + 1, _BLOCK):
            agree_QN = audio_agreement(block, list(prints[other : other + _BLOCK])).numpy()
            for row, column in zip(*np.nonzero(agree_QN >= least), strict=True):
                mine, theirs = start + row, other + column
                if theirs < mine and found[mine] == mine and found[theirs] == theirs:
                    found[mine] = theirs
    return found


def near_sound(prints: Sequence[np.ndarray], others: Sequence[np.ndarray], least: float) -> np.ndarray:
    """bool [N]: whether a fingerprint agrees with any of the others in at least `least` of its bits."""
    if not len(prints) or not len(others):
        return np.zeros(len(prints), bool)
    blocks = [
        audio_matches(list(prints[start : start + _BLOCK]), list(others)) for start in range(0, len(prints), _BLOCK)
    ]
    return np.concatenate(blocks) >= least


def _pieces(hashes_N: np.ndarray, count: int) -> list[np.ndarray]:
    """The 64 bits in `count` pieces of nearly one length."""
    edges = np.linspace(0, 64, count + 1).round().astype(int)
    return [(hashes_N >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1) for low, high in pairwise(edges)]


def _bits(hashes_N: np.ndarray) -> np.ndarray:
    """bool [N, 64]."""
    return np.unpackbits(np.ascontiguousarray(hashes_N).view(np.uint8).reshape(-1, 8), axis=1).astype(bool)


def _meetings(mine_N: np.ndarray, theirs_M: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each key that both collections have, the rows of the one and of the other that have it."""
    groups = _groups(np.concatenate([theirs_M, mine_N]))
    rows = np.flatnonzero(groups >= 0)
    rows = rows[np.argsort(groups[rows], kind="stable")]
    for members in np.split(rows, np.flatnonzero(np.diff(groups[rows])) + 1):
        cut = np.searchsorted(members, len(theirs_M))
        if 0 < cut < len(members):
            yield members[cut:] - len(theirs_M), members[:cut]


def _pairs_of(rows: np.ndarray, others: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair of a row and one of a few others, in blocks of bounded size."""
    height = max(1, _PAIRS // len(others))
    for start in range(0, len(rows), height):
        some = rows[start : start + height]
        yield np.repeat(some, len(others)), np.tile(others, len(some))


def _groups(keys_N: np.ndarray) -> np.ndarray:
    """int32 [N]: a number for each key, -1 where no other row has it."""
    _, group, sizes = np.unique(keys_N, return_inverse=True, return_counts=True)
    return np.where(sizes[group] > 1, group, -1).astype(np.int32)


def _representatives(keys: Sequence[np.ndarray], near: Near) -> np.ndarray:
    """int64 [N]: of each item the earliest that shares a key with it, is near to it and is near to none before it.

    A key holds only the items that are near to none before them: they alone can be one's earliest. So memory grows
    with the items, and many likenesses of one cost a comparison each.
    """
    groups_KN = np.stack([_groups(keys_N) for keys_N in keys])
    found = np.arange(groups_KN.shape[1])
    holders: list[defaultdict[int, array]] = [defaultdict(lambda: array("q")) for _ in keys]
    for row in np.flatnonzero((groups_KN >= 0).any(axis=0)).tolist():
        groups = groups_KN[:, row].tolist()
        mine = [held[group] for held, group in zip(holders, groups, strict=True) if group >= 0]
        first = _first_near(row, np.concatenate([np.array(held, np.int64) for held in mine]), near)
        if first is not None:
            found[row] = first
            continue
        for held in mine:
            held.append(row)
    return found


def _first_near(row: int, earlier: np.ndarray, near: Near) -> int | None:
    blocks = (earlier[start : start + _PAIRS] for start in range(0, len(earlier), _PAIRS))
    close = [int(block[keep].min()) for block in blocks for keep in [near(row, block)] if keep.any()]
    return min(close, default=None)


def _of_all(found: np.ndarray, first: np.ndarray, order: np.ndarray, back: np.ndarray) -> np.ndarray:
    """int64 [N]: what was found of distinct values in the order of their first places, for every place."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return first[order][found][place[back]]
