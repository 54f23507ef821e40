"""Retrieval metrics as torchmetrics metrics that reduce over processes with fixed shapes.

`HitRate`, `ReciprocalRank` and `NormalizedGain` average over queries and take ranks. `PoolRetrieval` takes embeddings
in any order from any process, each with its row in a pool known beforehand, and ranks the pool once it is whole; no
state changes its shape, so no process waits for one that has fewer samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torchmetrics import Metric

from commonspace.errors import DataError
from commonspace.evaluation.ranking import Ranks, rank_relevant, truncate
from commonspace.evaluation.relevance import Relevance


def hit_rate(ranks: Ranks, k: int) -> np.ndarray:
    """1 where any correct item is among the first k, float64 [Q]. With one correct item this is recall at k."""
    return (ranks.first <= k).astype(np.float64)


def reciprocal_rank(ranks: Ranks, k: int) -> np.ndarray:
    """1 / rank of the best correct item, 0 beyond k, float64 [Q]."""
    return np.where(ranks.first <= k, 1.0 / ranks.first, 0.0)


def normalized_gain(ranks: Ranks, k: int, gains: np.ndarray | None = None) -> np.ndarray:
    """Discounted gain of the correct items among the first k, over the most there could be (NDCG), float64 [Q].

    gains  float64 [pairs] of the items that `ranks` has, best ranked first, linear as trec_eval's; None: 1 each
    """
    found = np.where(ranks.ranks <= k, 1.0 / np.log2(ranks.ranks + 1.0), 0.0)
    found = found if gains is None else found * gains
    return np.add.reduceat(found, ranks.starts[:-1]) / _most_gain(ranks.starts, k, gains)


def _most_gain(starts: np.ndarray, k: int, gains: np.ndarray | None) -> np.ndarray:
    """What the correct items give in the order of their gains, float64 [Q]."""
    counts = np.diff(starts)
    if gains is None:
        return np.cumsum(1.0 / np.log2(np.arange(1, k + 1) + 1.0))[np.minimum(counts, k) - 1]
    best = gains[np.lexsort((-gains, np.repeat(np.arange(len(counts)), counts)))]
    places = np.arange(len(gains)) - np.repeat(starts[:-1], counts) + 1
    return np.add.reduceat(np.where(places <= k, best / np.log2(places + 1.0), 0.0), starts[:-1])


# The figures of every result row, each a function of ranks to one value per query.
METRICS: Mapping[str, Callable[[Ranks], np.ndarray]] = {
    "R@1": lambda ranks: hit_rate(ranks, 1),
    "R@5": lambda ranks: hit_rate(ranks, 5),
    "NDCG@10": lambda ranks: normalized_gain(ranks, 10),
    "MRR@10": lambda ranks: reciprocal_rank(ranks, 10),
}


def per_query(ranks: Ranks) -> dict[str, np.ndarray]:
    """Every metric's value for every query, {name: float64 [Q]}."""
    return {name: measure(ranks) for name, measure in METRICS.items()}


class RankMetric(Metric):
    """Mean over queries of a function of the ranks of their correct items. `update` takes `Ranks`."""

    higher_is_better = True
    full_state_update = False
    is_differentiable = False
    total: torch.Tensor
    count: torch.Tensor

    def __init__(self, k: int, **options: Any) -> None:
        super().__init__(**options)
        if k < 1:
            raise ValueError(f"k={k}: a cut-off is at least 1")
        self.k = k
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def score(self, ranks: Ranks) -> np.ndarray:
        """One value per query, float64 [Q]."""
        raise NotImplementedError

    def update(self, ranks: Ranks) -> None:
        """Add the queries of one block."""
        values = torch.from_numpy(self.score(ranks))
        self.total += values.sum().to(self.total)
        self.count += len(values)

    def compute(self) -> torch.Tensor:
        """Mean over all queries of all processes; 0 where there were none."""
        return self.total / self.count.clamp(min=1)


class HitRate(RankMetric):
    """Share of queries with a correct item among the first k (R@k)."""

    def score(self, ranks: Ranks) -> np.ndarray:
        return hit_rate(ranks, self.k)


class ReciprocalRank(RankMetric):
    """Mean of 1 / rank of the first correct item, 0 beyond k (MRR@k)."""

    def score(self, ranks: Ranks) -> np.ndarray:
        return reciprocal_rank(ranks, self.k)


class NormalizedGain(RankMetric):
    """Mean normalised discounted cumulative gain of the first k, gains 0 or 1 (NDCG@k)."""

    def score(self, ranks: Ranks) -> np.ndarray:
        return normalized_gain(ranks, self.k)


class PoolRetrieval(Metric):
    """R@1, R@5, NDCG@10 and MRR@10 of a pool whose embeddings arrive in pieces, on any process.

    The pool (its size and which items are right) is known beforehand; embeddings fill their rows. A row that comes
    twice, as samplers pad, counts once. `compute` raises DataError while rows are missing.
    """

    higher_is_better = True
    full_state_update = False
    is_differentiable = False
    queries: torch.Tensor
    items: torch.Tensor
    query_count: torch.Tensor
    item_count: torch.Tensor

    def __init__(self, relevance: Relevance, items: int, width: int, dim: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.relevance, self.dim = relevance, dim
        for name, rows in (("query", len(relevance)), ("item", items)):
            side = "queries" if name == "query" else "items"
            self.add_state(side, torch.zeros(rows, width, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(f"{name}_count", torch.zeros(rows, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, embeddings_NE: torch.Tensor, rows_N: torch.Tensor, side: Literal["query", "item"]) -> None:
        """Fill rows [N] of one side with unit vectors [N, width]."""
        vectors, counts = (self.queries, self.query_count) if side == "query" else (self.items, self.item_count)
        rows_N = rows_N.to(counts.device)
        vectors.index_add_(0, rows_N, embeddings_NE.detach().to(vectors))
        counts.index_add_(0, rows_N, torch.ones_like(rows_N, dtype=counts.dtype))

    def compute(self) -> dict[str, torch.Tensor]:
        """{metric: mean over the pool's queries}."""
        for name, counts in (("queries", self.query_count), ("items", self.item_count)):
            if (missing := int((counts == 0).sum())) > 0:
                raise DataError(f"{missing} of {len(counts)} {name} of the pool were never embedded")
        query_QE = truncate(self.queries / self.query_count[:, None], self.dim).cpu()
        item_GE = truncate(self.items / self.item_count[:, None], self.dim).cpu()
        values = per_query(rank_relevant(query_QE, item_GE, self.relevance))
        return {name: torch.tensor(value.mean()) for name, value in values.items()}
