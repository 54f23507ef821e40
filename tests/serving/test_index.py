"""An index against plain arithmetic, and what it says of what it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commonspace.errors import DataError
from commonspace.serving.index import VectorIndex, build_index

SIZE = 24


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, SIZE)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(path: Path, vectors: np.ndarray, about: dict | None = None) -> Path:
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), vectors.shape[1])
    table = pa.table({"key": [f"key {row}" for row in range(len(vectors))], "vector": rows})
    pq.write_table(table.replace_schema_metadata({"commonspace": json.dumps(about or {})}), path, row_group_size=300)
    return path


def test_answers_are_the_nearest_by_cosine_best_first(tmp_path: Path) -> None:
    vectors, queries = unit(1000), unit(20, seed=1)
    assert build_index(write(tmp_path / "v.parquet", 3 * vectors, {"model": "m"}), tmp_path / "a" / "index") == 1000
    opened = VectorIndex.open(tmp_path / "a" / "index")
    assert (opened.size, opened.about["model"], opened.about["vectors"]) == (SIZE, "m", 1000)
    scores = queries @ vectors.T
    best = np.argsort(-scores, axis=1)[:, :10]
    for query, answers in enumerate(opened.search(queries, 10, exact=True)):
        assert [found.key for found in answers] == [f"key {row}" for row in best[query]]
        np.testing.assert_allclose([found.score for found in answers], scores[query, best[query]], atol=1e-5)
    graph = opened.search(queries, 10)
    hits = [{f.key for f in some} & {f"key {row}" for row in best[query]} for query, some in enumerate(graph)]
    assert np.mean([len(hit) for hit in hits]) > 9


def test_fewer_vectors_than_asked_for(tmp_path: Path) -> None:
    build_index(write(tmp_path / "v.parquet", unit(3)), tmp_path / "index")
    (answers,) = VectorIndex.open(tmp_path / "index").search(unit(1, seed=2), 10)
    assert sorted(found.key for found in answers) == ["key 0", "key 1", "key 2"]


def test_an_index_is_replaced_whole(tmp_path: Path) -> None:
    build_index(write(tmp_path / "v.parquet", unit(30)), tmp_path / "index")
    build_index(write(tmp_path / "v.parquet", unit(5)), tmp_path / "index")
    assert len(VectorIndex.open(tmp_path / "index").keys) == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "v.parquet"]


def test_queries_of_another_size_are_refused(tmp_path: Path) -> None:
    build_index(write(tmp_path / "v.parquet", unit(5)), tmp_path / "index")
    with pytest.raises(DataError, match=f"have 8 numbers and the index {SIZE}; embed them with dim={SIZE}"):
        VectorIndex.open(tmp_path / "index").search(unit(1)[:, :8], 1)


def test_vectors_that_cannot_be_indexed_are_named(tmp_path: Path) -> None:
    bad = unit(4)
    bad[2, 3] = np.nan
    with pytest.raises(DataError, match="the vector of 'key 2' is not finite"):
        build_index(write(tmp_path / "v.parquet", bad), tmp_path / "index")
    with pytest.raises(DataError, match="holds no vector"):
        build_index(write(tmp_path / "v.parquet", unit(0)), tmp_path / "index")
    pq.write_table(pa.table({"key": ["a"], "text": ["b"]}), tmp_path / "v.parquet")
    with pytest.raises(DataError, match="has no columns key and vector"):
        build_index(tmp_path / "v.parquet", tmp_path / "index")
    (tmp_path / "v.parquet").write_text("none")
    with pytest.raises(DataError, match=r"v\.parquet: cannot be read as parquet"):
        build_index(tmp_path / "v.parquet", tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("name", ["vectors.usearch", "keys.parquet", "about.json"])
def test_a_folder_that_is_no_index_or_is_damaged(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="nowhere: no index"):
        VectorIndex.open(tmp_path / "nowhere")
    build_index(write(tmp_path / "v.parquet", unit(5)), tmp_path / "index")
    (tmp_path / "index" / name).write_bytes(b"broken")
    with pytest.raises(DataError, match="index: "):
        VectorIndex.open(tmp_path / "index")
