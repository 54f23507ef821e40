"""Nearest targets of queries by inner product: exactly, block by block, or by graphs of usearch (HNSW).

Memory grows with the block and not with the number of pairs. Of the graphs each holds so many targets, so several
processes build them side by side; a search asks all of them and merges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from commonspace.errors import ConfigError, DataError
from commonspace.mining.parts import make_parts, write_whole
from commonspace.mining.vectors import Vectors

if TYPE_CHECKING:
    from usearch.index import Index

Hidden = Callable[[np.ndarray], np.ndarray]  # rows [B] -> which of them each query must not find, bool [Q, B]
_HELD = 32_000_000  # scores held at once, and at most as many numbers of targets: 128 MB each
_ADDED = 8192  # vectors added to a graph at a time


def block_of(query_QE: torch.Tensor) -> int:
    """How many targets to score at once for some queries: bounded by the scores, for few queries by the targets."""
    return max(1, _HELD // max(1, *query_QE.shape))


@torch.inference_mode()
def nearest(
    query_QE: torch.Tensor,
    blocks: Iterable[tuple[int, torch.Tensor]],
    count: int,
    usable_N: np.ndarray,
    hidden: Hidden | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """For each query its `count` best usable targets, best first: rows int64 and scores float32 [Q, K].

    `blocks` are (first row, targets [n, E]) of all rows; those that are not usable, or `hidden` from a query, score
    -inf. Of equal scores the lower row comes first.
    """
    best_QK = torch.full((len(query_QE), 0), -torch.inf)
    rows_QK = torch.zeros((len(query_QE), 0), dtype=torch.int64)
    unusable_N = torch.from_numpy(~usable_N)
    for start, target_BE in blocks:
        scores_QB = (query_QE @ target_BE.to(query_QE.device).T).float()
        scores_QB[:, unusable_N[start : start + len(target_BE)].to(query_QE.device)] = -torch.inf
        if hidden is not None:
            mask_QB = torch.from_numpy(hidden(np.arange(start, start + len(target_BE))))
            scores_QB[mask_QB.to(query_QE.device)] = -torch.inf
        scores_QK, found_QK = scores_QB.topk(min(count, len(target_BE)), dim=1)
        best_QK = torch.cat([best_QK, scores_QK.cpu()], dim=1)
        rows_QK = torch.cat([rows_QK, found_QK.cpu() + start], dim=1)
        best_QK, places_QK = best_QK.topk(min(count, best_QK.shape[1]), dim=1)
        rows_QK = rows_QK.gather(1, places_QK)
    return ordered(rows_QK.numpy(), best_QK.numpy())


def ordered(rows_QK: np.ndarray, scores_QK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, best first; of equal scores the lower row first."""
    order_QK = np.lexsort((rows_QK, -scores_QK), axis=1)
    return np.take_along_axis(rows_QK, order_QK, axis=1), np.take_along_axis(scores_QK, order_QK, axis=1)


class Graphs:
    """Graphs of a side's vectors in float16, `rows` targets each, read where they lie.

    Scores are those of float16 vectors, off by some 1e-4. `expansion` is how many nodes a search looks at (HNSW's ef),
    at least twice what it returns.
    """

    def __init__(self, targets: Vectors, rows: int, expansion: int) -> None:
        several = max(1, rows // targets.chunk)
        self.targets, self.expansion = targets, expansion
        self.parts = [range(i, min(i + several, len(targets.paths))) for i in range(0, len(targets.paths), several)]
        name = f"graph-{several}"
        self.paths = [targets.folder / name / f"{number:04}.usearch" for number in range(len(self.parts))]
        self._open: list[Index] = []

    def build(self, what: str = "", *, progress: bool = False) -> None:
        """Make the graphs that are not there yet, with others who do."""
        _library()
        make_parts(self.paths, self._make, f"building graphs of {what}", progress=progress)

    def _make(self, number: int) -> None:
        graph = _library()(ndim=self.targets.size, metric="ip", dtype="f16")
        usable_N = self.targets.fact("usable")
        for part in self.parts[number]:
            rows = np.array(self.targets.part(part))
            rows, vectors = rows[usable_N[rows]], np.array(self.targets.of_part(part))[usable_N[rows]]
            for first in range(0, len(rows), _ADDED):
                some = slice(first, first + _ADDED)
                graph.add(rows[some].astype(np.uint64), vectors[some], threads=torch.get_num_threads())
        write_whole(self.paths[number], lambda path: graph.save(str(path)))

    def nearest(self, query_QE: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
        """As `nearest`, nearly; where graphs give fewer than `count`, what is missing scores -inf."""
        parts = [self._search(graph, query_QE.cpu().numpy(), count) for graph in self._graphs()]
        rows_QK, scores_QK = (np.concatenate(columns, axis=1) for columns in zip(*parts, strict=True))
        rows_QK, scores_QK = ordered(rows_QK, scores_QK)
        return rows_QK[:, :count], scores_QK[:, :count]

    def _search(self, graph: Index, query_QE: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        wanted = min(count, len(graph))
        rows_QK = np.zeros((len(query_QE), wanted), dtype=np.int64)
        scores_QK = np.full((len(query_QE), wanted), -np.inf, dtype=np.float32)
        if not wanted or not len(query_QE):
            return rows_QK, scores_QK
        graph.expansion_search = max(self.expansion, 2 * wanted)
        found = graph.search(query_QE, wanted, threads=torch.get_num_threads())
        keys_QK, distances_QK = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        width = keys_QK.shape[1]
        counts_Q1 = np.atleast_1d(getattr(found, "counts", width))[:, None]
        there_QK = np.arange(width) < counts_Q1
        rows_QK[:, :width][there_QK] = keys_QK[there_QK].astype(np.int64)
        scores_QK[:, :width][there_QK] = 1 - distances_QK[there_QK]
        return rows_QK, scores_QK

    def _graphs(self) -> list[Index]:
        if not self._open:
            for path in self.paths:
                self._open.append(_restored(path))
        return self._open


def _restored(path: Path) -> Index:
    """A graph, mapped. A damaged file is taken away and told by DataError."""
    told = "is no graph"
    try:
        if (graph := _library().restore(str(path), view=True)) is not None:
            return graph
    except (RuntimeError, ValueError) as error:
        told = str(error)
    path.unlink(missing_ok=True)
    raise DataError(f"{path}: was damaged ({told}) and is taken away; run the same command again")


def _library() -> type[Index]:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise ConfigError(
            "search=approximate needs usearch, which is not installed; run `pip install usearch`, or use search=exact"
        ) from error
    return Index
