"""Ranks and metrics against a plain double loop and against torchmetrics' own, ties, and two processes."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR, RetrievalNormalizedDCG

from commonspace.errors import DataError
from commonspace.evaluation import ranking
from commonspace.evaluation.metrics import HitRate, NormalizedGain, PoolRetrieval, ReciprocalRank, per_query
from commonspace.evaluation.ranking import Ranks, rank_relevant, truncate
from commonspace.evaluation.relevance import Relevance


def pool(queries: int = 37, items: int = 53, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Relevance]:
    generator = torch.Generator().manual_seed(seed)
    query_QE = truncate(torch.randn(queries, 8, generator=generator), None)
    item_GE = truncate(torch.randn(items, 8, generator=generator), None)
    rng = np.random.default_rng(seed)
    rows = [sorted(rng.choice(items, size=rng.integers(1, 14), replace=False).tolist()) for _ in range(queries)]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return query_QE, item_GE, Relevance(starts, np.array([item for row in rows for item in row]))


def double_loop(query_QE: torch.Tensor, item_GE: torch.Tensor, relevance: Relevance) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {"R@1": [], "R@5": [], "NDCG@10": [], "MRR@10": []}
    for query, vector in enumerate(query_QE.double()):
        right = set(relevance.of(query).tolist())
        scored = [(round(float(vector @ item), 7), row not in right) for row, item in enumerate(item_GE.double())]
        hits = [not wrong for _, wrong in sorted(scored, key=lambda pair: (-pair[0], not pair[1]))]
        values["R@1"].append(float(any(hits[:1])))
        values["R@5"].append(float(any(hits[:5])))
        values["MRR@10"].append(next((1 / (place + 1) for place, hit in enumerate(hits[:10]) if hit), 0.0))
        gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits[:10]) if hit)
        values["NDCG@10"].append(gain / sum(1 / math.log2(place + 2) for place in range(min(10, len(right)))))
    return values


@pytest.mark.parametrize("block", [1, 200, 4_000_000])
def test_ranks_equal_a_double_loop_whatever_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_BLOCK_SCORES", block)
    query_QE, item_GE, relevance = pool()
    expected = double_loop(query_QE, item_GE, relevance)
    for name, values in per_query(rank_relevant(query_QE, item_GE, relevance)).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-12, err_msg=name)


def test_metrics_equal_those_of_torchmetrics() -> None:
    query_QE, item_GE, relevance = pool(seed=3)
    ranks = rank_relevant(query_QE, item_GE, relevance)
    truth = torch.zeros(len(query_QE), len(item_GE), dtype=torch.bool)
    for query in range(len(relevance)):
        truth[query, relevance.of(query)] = True
    scores = (query_QE @ item_GE.T).flatten()
    index = torch.arange(len(query_QE)).repeat_interleave(len(item_GE))
    for ours, theirs in (
        (HitRate(1), RetrievalHitRate(top_k=1)),
        (HitRate(5), RetrievalHitRate(top_k=5)),
        (NormalizedGain(10), RetrievalNormalizedDCG(top_k=10)),
        (ReciprocalRank(10), RetrievalMRR(top_k=10)),
    ):
        ours.update(ranks)
        expected = theirs(scores, truth.flatten(), indexes=index)
        assert float(ours.compute()) == pytest.approx(float(expected), abs=1e-6), type(ours).__name__


def test_equal_scores_count_against_the_model() -> None:
    vectors = torch.ones(5, 4) / 2
    relevance = Relevance(np.array([0, 1, 3]), np.array([0, 3, 4]))
    assert rank_relevant(vectors[:2], vectors, relevance).ranks.tolist() == [5, 4, 5]


def test_a_group_is_ranked_among_itself() -> None:
    query_QE, item_GE, _ = pool(4, 20)
    item_GE = item_GE[:6]
    relevance = Relevance(np.array([0, 1, 2, 3, 5]), np.array([0, 1, 4, 3, 5]))
    query_groups, item_groups = ["a", "a", "b", "b"], ["a", "a", "a", "b", "b", "b"]
    whole = rank_relevant(query_QE, item_GE, relevance, query_groups, item_groups)
    first = rank_relevant(query_QE[:2], item_GE[:3], Relevance(np.array([0, 1, 2]), np.array([0, 1])))
    second = rank_relevant(query_QE[2:], item_GE[3:], Relevance(np.array([0, 1, 3]), np.array([1, 0, 2])))
    assert whole.ranks.tolist() == [*first.ranks.tolist(), *second.ranks.tolist()]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda q, g, r: (q * torch.nan, g, r), "not finite"),
        (lambda q, g, r: (q[:-1], g, r), "37 queries were expected"),
        (lambda q, g, r: (q, g, Relevance(r.starts * 0, r.items[:0])), "no correct item"),
    ],
)
def test_what_cannot_be_scored_is_refused(spoil, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rank_relevant(*spoil(*pool()))


def test_processes_together_equal_one() -> None:
    """Each process fills its own rows, one row twice as a padding sampler does; states add up to the whole pool."""
    query_QE, item_GE, relevance = pool()
    whole = PoolRetrieval(relevance, len(item_GE), 8)
    whole.update(query_QE, torch.arange(len(query_QE)), "query")
    whole.update(item_GE, torch.arange(len(item_GE)), "item")
    parts = [PoolRetrieval(relevance, len(item_GE), 8) for _ in range(2)]
    for rank, part in enumerate(parts):
        for side, vectors in (("query", query_QE), ("item", item_GE)):
            rows = torch.arange(rank, len(vectors) + len(vectors) % 2, 2) % len(vectors)
            part.update(vectors[rows], rows, side)  # type: ignore[arg-type]
    merged = copy.deepcopy(parts[0])
    for name, reduce in merged._reductions.items():
        setattr(merged, name, reduce(torch.stack([getattr(part, name) for part in parts])))
    assert {k: float(v) for k, v in merged.compute().items()} == {k: float(v) for k, v in whole.compute().items()}


def test_a_pool_with_holes_does_not_compute() -> None:
    query_QE, item_GE, relevance = pool()
    metric = PoolRetrieval(relevance, len(item_GE), 8)
    metric.update(query_QE, torch.arange(len(query_QE)), "query")
    metric.update(item_GE[:-3], torch.arange(len(item_GE) - 3), "item")
    with pytest.raises(DataError, match="3 of 53 items"):
        metric.compute()


def test_truncation_is_the_renormalised_prefix() -> None:
    vectors = torch.randn(4, 8)
    np.testing.assert_allclose(truncate(vectors, 3).norm(dim=1), 1, rtol=1e-6)
    with pytest.raises(DataError, match="dim=9"):
        truncate(vectors, 9)


def _one_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    query_QE, item_GE, relevance = pool()
    metric = PoolRetrieval(relevance, len(item_GE), 8)
    for side, vectors in (("query", query_QE), ("item", item_GE)):
        rows = torch.arange(rank, len(vectors), 2)  # one process has one more than the other
        metric.update(vectors[rows], rows, side)  # type: ignore[arg-type]
    mean = ReciprocalRank(10)
    mean.update(
        rank_relevant(query_QE, item_GE, relevance) if rank else Ranks(np.zeros(1, np.int64), np.zeros(0, np.int64))
    )
    torch.save({"pool": metric.compute(), "mean": mean.compute()}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_real_processes_give_what_one_gives(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_one_process, (str(tmp_path),), nprocs=2)
    query_QE, item_GE, relevance = pool()
    expected = per_query(rank_relevant(query_QE, item_GE, relevance))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, values in expected.items():
            assert float(found["pool"][name]) == pytest.approx(values.mean(), abs=1e-9)
        assert float(found["mean"]) == pytest.approx(expected["MRR@10"].mean(), abs=1e-9), "one process had no query"
