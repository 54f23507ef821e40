"""MinHash of texts: the share of equal places of two signatures estimates how much of their shingles two texts share.

Broder (1997). Shingles are runs of 5 characters of the normalised text, so that no language needs a tokenizer.
"""

from __future__ import annotations

import numpy as np

SHINGLE = 5  # characters
PLACES = 64  # of a signature; the standard error of an estimate of 0.8 is 0.05
ROWS = 4  # places of a band: texts that share 0.8 meet in one of the 16 bands but for 2 in 10,000
_BLOCK = 8192  # shingles of a text that are hashed at once
_WEIGHTS = np.array([pow(0x100000001B3, power, 2**64) for power in range(SHINGLE)], np.uint64)
_KEYS = np.random.default_rng(7).integers(0, 2**64 - 1, PLACES, np.uint64)  # one order of all shingles each
_MIX, _MORE = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # of splitmix64's last steps


def signature(text: str) -> np.ndarray | None:
    """uint32 [64], or None for a text of fewer than two shingles: it is compared whole.

    Least values are taken over blocks of shingles: 8 bytes a character are held, and some 10 MB for a block.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    count = len(codes) - SHINGLE + 1
    if count < 2:
        return None
    least_P = np.full(PLACES, 2**32 - 1, np.uint32)
    for start in range(0, count, _BLOCK):
        np.minimum(least_P, _least(codes[start : start + _BLOCK + SHINGLE - 1]), out=least_P)
    return least_P


def _least(codes: np.ndarray) -> np.ndarray:
    """uint32 [64]: the least value that any shingle of these characters has in each order."""
    windows = np.lib.stride_tricks.sliding_window_view(codes.astype(np.uint64), SHINGLE)
    shingles_S = np.unique((windows * _WEIGHTS).sum(axis=1, dtype=np.uint64))
    values_SP = (shingles_S[:, None] ^ _KEYS) * _MIX
    values_SP ^= values_SP >> np.uint64(27)
    values_SP *= _MORE
    values_SP >>= np.uint64(32)
    return values_SP.min(axis=0).astype(np.uint32)


def bands(signatures_NP: np.ndarray) -> list[np.ndarray]:
    """For each band of 4 places a key of every signature; equal keys are candidates. 16 arrays [N] of 16 bytes."""
    return [
        np.ascontiguousarray(signatures_NP[:, start : start + ROWS]).view(f"V{4 * ROWS}").ravel()
        for start in range(0, PLACES, ROWS)
    ]


def shared(one_NP: np.ndarray, other_NP: np.ndarray) -> np.ndarray:
    """Estimated share of shingles that rows have in common, float64 [N]."""
    return (one_NP == other_NP).mean(axis=1)
