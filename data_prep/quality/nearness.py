"""Which of many pictures, texts or sounds are near to which: by candidates that share a band, then measured.

`earliest_*` gives each item the first one that it is near to and that is itself near to none before it; `near_*` says
of each item whether it is near to any of another collection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from commonspace.evaluation.fingerprints import audio_agreement, audio_matches, hash_matches
from data_prep.quality import minhash

_PAIRS = 4_000_000  # compared at once
_ROWS = 4096
_BLOCK = 512  # sounds
Pairs = Iterator[tuple[np.ndarray, np.ndarray]]  # rows one < other


def earliest_image(hashes_N: np.ndarray, distance: int) -> np.ndarray:
    """Of perceptual hashes, uint64 [N]: int64 [N]. Exact: hashes within `distance` share one of distance + 1 pieces."""
    values, first, back = np.unique(hashes_N, return_index=True, return_inverse=True)
    order = np.argsort(first)  # distinct hashes in the order in which they first come
    distinct = values[order]
    close = (
        (one[keep], other[keep])
        for one, other in _candidates(_pieces(distinct, distance + 1))
        for keep in [np.bitwise_count(distinct[one] ^ distinct[other]) <= distance]
    )
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return first[order][_representatives(len(distinct), close)][place[back]]


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
    close = (
        (one[keep], other[keep])
        for one, other in _candidates(minhash.bands(distinct))
        for keep in [minhash.shared(distinct[one], distinct[other]) >= least]
    )
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return first[order][_representatives(len(distinct), close)][place[back.ravel()]]


def near_text(signatures_NP: np.ndarray, others_MP: np.ndarray, least: float) -> np.ndarray:
    """bool [N]: whether a signature shares at least `least` with any of the others."""
    found = np.zeros(len(signatures_NP), bool)
    both = np.concatenate([others_MP, signatures_NP])
    for one, other in _candidates(minhash.bands(both), split=len(others_MP)):
        keep = minhash.shared(both[one], both[other]) >= least
        found[other[keep] - len(others_MP)] = True
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


def _candidates(keys: Iterable[np.ndarray], split: int | None = None) -> Pairs:
    """Pairs of rows that share a key, array by array of keys; with `split` those on either side of it alone."""
    for keys_N in keys:
        _, group = np.unique(keys_N, return_inverse=True)
        order = np.argsort(group, kind="stable")
        ends = np.flatnonzero(np.diff(group[order])) + 1
        for members in np.split(order, ends):
            if len(members) < 2:
                continue
            cut = np.searchsorted(members, split) if split is not None else None
            yield from _pairs_of(members, cut)


def _pairs_of(members: np.ndarray, cut: int | None) -> Pairs:
    """Pairs within a sorted group, or across its place `cut`, in blocks of bounded size."""
    height = max(1, _PAIRS // len(members))
    firsts = members if cut is None else members[:cut]
    for start in range(0, len(firsts), height):
        rows = np.arange(start, min(start + height, len(firsts)))
        columns = np.arange(len(members)) if cut is None else np.arange(cut, len(members))
        one, other = np.meshgrid(rows, columns, indexing="ij")
        keep = one < other
        yield members[one[keep]], members[other[keep]]


def _representatives(count: int, close: Pairs) -> np.ndarray:
    """int64 [count]: of each item the earliest near one that is near to none before it."""
    pairs = list(close)
    found = np.arange(count)
    if not pairs:
        return found
    one, other = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    order = np.lexsort((one, other))
    for first, second in zip(one[order].tolist(), other[order].tolist(), strict=True):
        if found[second] == second and found[first] == first:
            found[second] = first
    return found
