"""What smaller forms of the same vectors cost: a task ranked by int8 or binary items, queries in float32.

int8          items decoded from int8, ranges of the pool's own items
binary        Hamming distance of signs alone, of queries too; equal distances count against the model
binary_float  the first `rescored` items by Hamming distance in the order of their float32 vectors, then the others
binary_int8   the same with int8 vectors
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from commonspace.errors import ConfigError
from commonspace.evaluation.ranking import Ranks, rank_scores
from commonspace.evaluation.relevance import Relevance
from commonspace.models.quantise import calibrate, from_int8, hamming, nearest, rescore, to_binary, to_int8

FORMS = ("int8", "binary", "binary_float", "binary_int8")
_DECIMALS = 7  # as in `ranking`: equal vectors tie however the blocks fall


def check_forms(forms: Sequence[str]) -> None:
    """ConfigError for a form that is none of `FORMS`."""
    if unknown := sorted(set(forms) - set(FORMS)):
        raise ConfigError(f"quantised={unknown}: choose from {', '.join(FORMS)}")


def precision_of(form: str, rescored: int) -> str:
    """What a row's `precision` says of a form: "int8", "binary_float@40"."""
    return f"{form}@{rescored}" if form in ("binary_float", "binary_int8") else form


def rank_quantised(
    query_QE: torch.Tensor,
    item_GE: torch.Tensor,
    relevance: Relevance,
    form: str,
    rescored: int,
    query_groups: Sequence[str] | None = None,
    item_groups: Sequence[str] | None = None,
) -> Ranks:
    """As `ranking.rank_relevant`, with items in a form of `FORMS`. The vectors are those of one size, cut before."""
    queries, items = query_QE.float().numpy(), item_GE.float().numpy()
    ranges = calibrate(items) if form.endswith("int8") else None
    stored = items if ranges is None else to_int8(items, ranges)
    query_bits, item_bits = to_binary(queries), to_binary(items)

    def scores(query_rows: np.ndarray, item_rows: np.ndarray) -> np.ndarray:
        if form == "int8":
            return np.round(queries[query_rows].astype(np.float64) @ from_int8(stored[item_rows], ranges).T, _DECIMALS)
        distance_QG = hamming(query_bits[query_rows], item_bits[item_rows])
        if form == "binary":
            return -distance_QG
        candidate_QC = nearest(distance_QG, rescored)
        out_QG = -1.0 * distance_QG - 2 * len(queries[0])  # below every inner product of those that are rescored
        products_QC = rescore(queries[query_rows], stored[item_rows], candidate_QC, ranges)
        np.put_along_axis(out_QG, candidate_QC, np.round(products_QC.astype(np.float64), _DECIMALS), axis=1)
        return out_QG

    groups = (query_groups or [""] * len(queries), item_groups or [""] * len(items))
    return rank_scores(scores, relevance, *groups)
