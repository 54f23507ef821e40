"""Searches against a sort of all scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.errors import DataError
from commonspace.mining.search import Graphs, block_of, nearest
from commonspace.mining.vectors import embed_side
from tests.mining.made import model, pair, plain_pairs, vectors_of, write


def unit(count: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator), dim=1)


def sorted_out(scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(scores, order, axis=1)


@pytest.mark.parametrize("size", [7, 50, 500])
@pytest.mark.parametrize("count", [1, 5, 60])
def test_blocks_give_what_a_sort_gives(size: int, count: int) -> None:
    query, target = unit(9, 8, 1), unit(50, 8, 2)
    usable = np.arange(50) % 7 != 3
    blocks = ((start, target[start : start + size]) for start in range(0, 50, size))
    found, scores = nearest(query, blocks, count, usable)
    whole = (query @ target.T).numpy()
    whole[:, ~usable] = -np.inf
    expected, best = sorted_out(whole, count)
    assert np.allclose(scores, best, atol=1e-6)
    there = np.isfinite(best)
    assert (found[there] == expected[there]).all()


def test_hidden_rows_are_not_found_by_their_query() -> None:
    query, target = unit(4, 8, 1), unit(20, 8, 2)
    hide = np.random.default_rng(0).random((4, 20)) < 0.5
    blocks = ((start, target[start : start + 6]) for start in range(0, 20, 6))
    found, scores = nearest(query, blocks, 20, np.ones(20, bool), lambda rows: hide[:, rows])
    for row in range(4):
        assert set(found[row][np.isfinite(scores[row])]) == set(np.flatnonzero(~hide[row]))


def test_of_equal_scores_the_lower_row_comes_first() -> None:
    target = torch.ones(6, 1)
    found, _ = nearest(torch.ones(1, 1), [(0, target[:4]), (4, target[4:])], 6, np.ones(6, bool))
    assert found.tolist() == [[0, 1, 2, 3, 4, 5]]


def test_blocks_are_bounded() -> None:
    held = 32_000_000
    for queries in (0, 1, 383, 1000):  # targets are 384 wide
        assert block_of(torch.empty(queries, 384)) == held // max(queries, 384)
    assert block_of(torch.empty(1, 1).expand(10**9, 384)) == 1


def test_graphs_find_nearly_what_the_exact_search_finds(tmp_path: Path) -> None:
    records = [*plain_pairs(300, width=8), pair("bad", "q|1 0 0 0 0 0 0 0", "broken")]
    reader = write(tmp_path, records)
    targets = embed_side(model(), reader, "positive", tmp_path / "work", chunk=64)
    query = torch.from_numpy(vectors_of(write(tmp_path / "again", records[:-1]))[0][:40])
    graphs = Graphs(targets, rows=128, expansion=64)
    graphs.build()
    assert [len(part) for part in graphs.parts] == [2, 2, 1] and all(path.exists() for path in graphs.paths)
    found, scores = graphs.nearest(query, 10)
    exact, best = nearest(query, targets.blocks(64), 10, targets.fact("usable"))
    hits = [len(set(a) & set(b)) for a, b in zip(found, exact, strict=True)]
    assert np.mean(hits) > 9.5 and np.abs(scores - best).max() < 0.02
    assert 300 not in found  # what could not be embedded is in no graph
    alone, _ = graphs.nearest(query[:1], 10)
    assert (alone == found[:1]).all()
    _, scores = graphs.nearest(query[:2], 1000)
    assert np.isfinite(scores).sum(1).tolist() == [300, 300]

    before = [path.stat().st_mtime_ns for path in graphs.paths]
    Graphs(targets, rows=128, expansion=64).build()  # nothing to do
    assert before == [path.stat().st_mtime_ns for path in graphs.paths]
    graphs.paths[1].write_bytes(b"no graph")
    with pytest.raises(DataError, match="0001.usearch: was damaged .* run the same command again"):
        Graphs(targets, rows=128, expansion=64).nearest(query, 3)
    assert not graphs.paths[1].exists()
