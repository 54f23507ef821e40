"""Vectors in a quarter or a thirty-second of their size, and searching them: pure functions on arrays.

int8     each dimension's range of a calibration set in 256 steps                                    [N, E] int8
binary   the sign of each dimension, eight to a byte, compared by Hamming distance                   [N, E / 8] uint8

Legend: N vectors, Q queries, G items, E size, B = ceil(E / 8) bytes, C candidates of a query.

Recommendations: signs alone lose most of what a short vector knows, so they only choose candidates, and `rescore` puts
those in order by the query in float32 against items in float32 or int8. Codes are those of sentence-transformers'
`quantize_embeddings` ("int8", "ubinary").
"""

from __future__ import annotations

import numpy as np

from commonspace.errors import ConfigError, DataError

_STEPS = 255  # between the 256 values of int8
_BLOCK = 32_000_000  # bytes of differing bits held at once


def calibrate(vectors_NE: np.ndarray) -> np.ndarray:
    """Least and greatest value of each dimension, float32 [2, E], of vectors like those to be stored.

    Raises DataError where there are fewer than two, or one is not finite.
    """
    if len(vectors_NE) < 2 or not np.isfinite(vectors_NE).all():
        raise DataError(f"{len(vectors_NE)} vectors to take ranges from; it takes two or more, all finite")
    return np.stack([vectors_NE.min(axis=0), vectors_NE.max(axis=0)]).astype(np.float32)


def to_int8(vectors_NE: np.ndarray, ranges_2E: np.ndarray) -> np.ndarray:
    """int8 [N, E]: floor((x - low) / step) - 128 with a step of 1/255 of the range; values outside it are clipped.

    A dimension without a range is -128 up to one above its value.
    """
    _check_size(vectors_NE, ranges_2E.shape[1])
    low_E, step_E = _steps(ranges_2E)
    levels_NE = np.floor((vectors_NE - low_E) / np.where(step_E == 0, 1, step_E))
    return (np.clip(levels_NE, 0, _STEPS) - 128).astype(np.int8)


def from_int8(codes_NE: np.ndarray, ranges_2E: np.ndarray) -> np.ndarray:
    """float32 [N, E]: the middle of each code's step, the greatest value for the last code."""
    _check_size(codes_NE, ranges_2E.shape[1])
    low_E, step_E = _steps(ranges_2E)
    levels_NE = codes_NE.astype(np.float32) + 128
    return low_E + step_E * np.minimum(levels_NE + np.float32(0.5), _STEPS)


def to_binary(vectors_NE: np.ndarray) -> np.ndarray:
    """uint8 [N, B]: bit 1 where a value is above 0, first dimension in the highest bit, zeros behind the last."""
    return np.packbits(vectors_NE > 0, axis=-1)


def hamming(query_QB: np.ndarray, item_GB: np.ndarray) -> np.ndarray:
    """How many bits differ, int32 [Q, G]."""
    _check_size(query_QB, item_GB.shape[1])
    out_QG = np.empty((len(query_QB), len(item_GB)), np.int32)
    block = max(1, _BLOCK // max(1, item_GB.size))
    for start in range(0, len(query_QB), block):
        rows = slice(start, start + block)
        out_QG[rows] = np.bitwise_count(query_QB[rows, None] ^ item_GB[None]).sum(axis=-1, dtype=np.int32)
    return out_QG


def nearest(distance_QG: np.ndarray, count: int) -> np.ndarray:
    """The items at the `count` least distances of each query, int64 [Q, C], nearest first, of equal ones the earlier.

    C is G where that is less.
    """
    if count < 1:
        raise ConfigError(f"count={count}: at least one candidate")
    items = distance_QG.shape[1]
    order_QG = distance_QG.astype(np.int64) * items + np.arange(items)  # no two alike: ties are decided here
    if count < items:
        kept_QC = np.argpartition(order_QG, count - 1, axis=1)[:, :count]
    else:
        kept_QC = np.broadcast_to(np.arange(items), order_QG.shape)
    return np.take_along_axis(kept_QC, np.argsort(np.take_along_axis(order_QG, kept_QC, axis=1), axis=1), axis=1)


def rescore(
    query_QE: np.ndarray, item_GE: np.ndarray, candidate_QC: np.ndarray, ranges_2E: np.ndarray | None = None
) -> np.ndarray:
    """Inner products of each query, float32, with its candidates, float32 [Q, C].

    `item_GE` is float32, or int8 with the `ranges_2E` of its codes: only the candidates are decoded.
    """
    if (item_GE.dtype == np.int8) != (ranges_2E is not None):
        raise ConfigError("ranges belong to int8 items, and to no others")
    _check_size(query_QE, item_GE.shape[1])
    out_QC = np.empty(candidate_QC.shape, np.float32)
    for row, (query_E, candidates_C) in enumerate(zip(query_QE, candidate_QC, strict=True)):
        items_CE = item_GE[candidates_C]
        out_QC[row] = (items_CE if ranges_2E is None else from_int8(items_CE, ranges_2E)) @ query_E
    return out_QC


def _steps(ranges_2E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return ranges_2E[0], (ranges_2E[1] - ranges_2E[0]) / np.float32(_STEPS)


def _check_size(vectors: np.ndarray, size: int) -> None:
    if vectors.shape[1] != size:
        raise DataError(f"vectors of {vectors.shape[1]} against {size}: cut both to one size before they are quantised")
