"""Exact search over a pool, in blocks: the rank of every correct item of every query.

Ties are decided against the model: among equal scores the wrong items come first, so a model that gives every item one
vector scores as badly as it deserves. Scores are float64 inner products rounded to 1e-7, so that equal vectors tie
however the blocks fall.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from commonspace.errors import DataError
from commonspace.evaluation.relevance import Relevance

_DECIMALS = 7
_BLOCK_SCORES = 4_000_000  # scores held at once: 32 MB


@dataclass(frozen=True)
class Ranks:
    """Ranks of the correct items, best first.

    starts int64 [Q + 1], ranks int64 [pairs]: 1 is the top; query q has ranks[starts[q]:starts[q + 1]].
    """

    starts: np.ndarray
    ranks: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """Rank of the best correct item of each query, int64 [Q]."""
        return self.ranks[self.starts[:-1]]


def truncate(vectors: torch.Tensor, dim: int | None) -> torch.Tensor:
    """The first `dim` entries of each row, to unit length: what a Matryoshka size means."""
    if dim is not None and not 0 < dim <= vectors.shape[-1]:
        raise DataError(f"dim={dim}: these embeddings have {vectors.shape[-1]} entries")
    return torch.nn.functional.normalize(vectors[:, :dim], dim=-1)


def rank_relevant(
    query_QE: torch.Tensor,
    item_GE: torch.Tensor,
    relevance: Relevance,
    query_groups: Sequence[str] | None = None,
    item_groups: Sequence[str] | None = None,
) -> Ranks:
    """Rank every correct item of every query among the items of the query's group (one group where None).

    Raises DataError on non-finite embeddings, a query without any correct item, or shapes that do not fit.
    """
    _check(query_QE, item_GE, relevance)
    query_QE, items_EG = query_QE.double(), item_GE.double().T.contiguous()

    def scores(queries: np.ndarray, items: np.ndarray) -> torch.Tensor:
        chosen_EG = items_EG if len(items) == items_EG.shape[1] else items_EG[:, items]
        return torch.round(query_QE[queries] @ chosen_EG, decimals=_DECIMALS)

    count = len(item_GE)
    return rank_scores(scores, relevance, query_groups or [""] * len(relevance), item_groups or [""] * count)


def rank_scores(
    scores: Callable[[np.ndarray, np.ndarray], torch.Tensor | np.ndarray],
    relevance: Relevance,
    query_groups: Sequence[str],
    item_groups: Sequence[str],
) -> Ranks:
    """The same from any scores: `scores(query rows, item rows)` gives [queries, items], higher is better.

    All items of a group are asked for together, its queries in blocks.
    """
    ranks = np.zeros(len(relevance.items), dtype=np.int64)
    query_names, item_names = np.asarray(query_groups), np.asarray(item_groups)
    for group in sorted(set(query_groups)):
        queries, items = np.flatnonzero(query_names == group), np.flatnonzero(item_names == group)
        block = max(1, _BLOCK_SCORES // len(items))
        for start in range(0, len(queries), block):
            rows = queries[start : start + block]
            part = relevance.select(rows)
            local = Relevance(part.starts, np.searchsorted(items, part.items))
            where = np.concatenate([np.arange(relevance.starts[row], relevance.starts[row + 1]) for row in rows])
            ranks[where] = _rank_block(torch.as_tensor(scores(rows, items)).double(), local)
    return Ranks(relevance.starts, ranks)


def _check(query_QE: torch.Tensor, item_GE: torch.Tensor, relevance: Relevance) -> None:
    if len(query_QE) != len(relevance) or query_QE.shape[-1] != item_GE.shape[-1]:
        raise DataError(
            f"{len(relevance)} queries were expected and embeddings came as {tuple(query_QE.shape)} "
            f"against items {tuple(item_GE.shape)}"
        )
    for name, vectors in (("query", query_QE), ("gallery", item_GE)):
        bad = ~torch.isfinite(vectors).all(dim=-1)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise DataError(f"{name} embedding {row} is not finite ({int(bad.sum())} such); the model has diverged")
    if (relevance.counts == 0).any():
        row = int(np.flatnonzero(relevance.counts == 0)[0])
        raise DataError(f"query {row} has no correct item in its pool; drop it before scoring")


def _rank_block(scores_QG: torch.Tensor, relevance: Relevance) -> np.ndarray:
    """Ranks of the correct items in the order of `relevance`, best first within a query, int64 [pairs]."""
    counts = torch.from_numpy(relevance.counts)
    rows = torch.repeat_interleave(torch.arange(len(relevance)), counts)
    items = torch.from_numpy(relevance.items)
    place = torch.arange(len(items)) - torch.repeat_interleave(torch.from_numpy(relevance.starts[:-1]), counts)
    right_QR = torch.full((len(relevance), int(counts.max())), -torch.inf, dtype=torch.float64)
    right_QR[rows, place] = scores_QG[rows, items]
    right_QR = right_QR.sort(dim=1, descending=True).values
    wrong_QG = scores_QG.clone()
    wrong_QG[rows, items] = -torch.inf
    # Ascending order of the negated wrong scores: `right=True` counts the ties as ahead of the correct item.
    ahead_QR = torch.searchsorted((-wrong_QG).sort(dim=1).values, -right_QR, right=True)
    ranks_QR = ahead_QR + torch.arange(1, right_QR.shape[1] + 1)
    return ranks_QR[rows, place].numpy()
