"""A folder that is searched: vectors in a graph of usearch (HNSW), their keys, and what made them.

vectors.usearch   the graph with float32 vectors, read where it lies
keys.parquet      one key a row, in the graph's order
about.json        number and size of the vectors, the model's fingerprint, task, role
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from commonspace.errors import ConfigError, DataError
from commonspace.models.folder import write_json
from commonspace.models.replacing import replaced_folder
from commonspace.serving.vectors import read_parquet

if TYPE_CHECKING:
    from usearch.index import Index

_GRAPH, _KEYS, _ABOUT = "vectors.usearch", "keys.parquet", "about.json"


@dataclass(frozen=True)
class Found:
    """One answer: its key and its cosine with the query."""

    key: str
    score: float


class VectorIndex:
    """An index folder, open for searching; `about` is its about.json."""

    def __init__(self, graph: Index, keys: Sequence[str], about: Mapping[str, Any]) -> None:
        self.graph, self.keys, self.about = graph, keys, about

    @classmethod
    def open(cls, folder: Path) -> VectorIndex:
        """Raises DataError where the folder is no index, or is damaged."""
        index = _library()
        try:
            about = json.loads((folder / _ABOUT).read_text())
            graph = index.restore(str(folder / _GRAPH), view=True)
            keys = pq.read_table(folder / _KEYS)["key"].to_pylist()
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise DataError(
                f"{folder}: no index ({error}); make it by `commonspace index VECTORS.parquet -o {folder}`"
            ) from error
        if graph is None or not len(graph) == len(keys) == about["vectors"]:
            raise DataError(f"{folder}: is damaged; make it again by `commonspace index`")
        return cls(graph, keys, about)

    @property
    def size(self) -> int:
        """Of the vectors."""
        return self.graph.ndim

    def search(self, query_QE: np.ndarray, k: int, *, exact: bool = False) -> list[list[Found]]:
        """The `k` nearest of each query float32 [Q, E], best first; fewer where the index holds fewer.

        The graph finds nearly all of them; `exact` compares with every vector. Raises DataError for another size.
        """
        if query_QE.shape[1] != self.size:
            raise DataError(
                f"queries have {query_QE.shape[1]} numbers and the index {self.size}; embed them with dim={self.size}"
            )
        answers = []
        for query_E in query_QE:
            found = self.graph.search(query_E, min(k, len(self.keys)), exact=exact)
            pairs = zip(found.keys.tolist(), found.distances.tolist(), strict=True)
            answers.append([Found(self.keys[row], 1 - distance) for row, distance in pairs])
        return answers


def build_index(vectors: Path, folder: Path) -> int:
    """Write an index of a .parquet file of vectors, whole or not at all; returns how many there are.

    Raises DataError where the file holds none, or one that is not finite.
    """
    batches, form = read_parquet(vectors)
    if not form.entries:
        raise DataError(f"{vectors}: holds no vector")
    graph, keys = _library()(ndim=form.size, metric="cos", dtype="f32"), []
    for some, vectors_NE in batches:
        if not np.isfinite(vectors_NE).all():
            row = int(np.flatnonzero(~np.isfinite(vectors_NE).all(axis=1))[0])
            raise DataError(f"{vectors}: the vector of {some[row]!r} is not finite; embed it again, or leave it out")
        graph.add(np.arange(len(keys), len(keys) + len(some), dtype=np.uint64), vectors_NE)
        keys += some
    with replaced_folder(folder, "index") as target:
        graph.save(str(target / _GRAPH))
        pq.write_table(pa.table({"key": pa.array(keys, pa.string())}), target / _KEYS)
        write_json(target / _ABOUT, {**form.about, "vectors": len(keys), "dim": form.size})
    return len(keys)


def _library() -> type[Index]:
    try:
        from usearch.index import Index
    except ImportError as error:
        raise ConfigError("searching needs usearch, which is not installed; run `pip install usearch`") from error
    return Index
