"""Fusion and the named selections against plain loops."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from commonspace.mining.options import MiningOptions
from commonspace.mining.selection import choose, fuse_ranks, judged, order_of, select

NOBODY = np.zeros((0, 6)), np.zeros(0)


def fused_by_loop(scores: np.ndarray, constant: float = 60) -> list[float]:
    out = [0.0] * scores.shape[1]
    for row in scores:
        for place, score in enumerate(row):
            rank = 1 + sum(other > score for other in row)
            out[place] += 1 / (constant + rank)
    return out


@pytest.mark.parametrize("teachers", [1, 2, 3])
def test_fusion_equals_a_plain_loop(teachers: int) -> None:
    scores = np.random.default_rng(teachers).integers(0, 6, (teachers, 10)).astype(float)  # with ties
    assert np.allclose(fuse_ranks(scores), fused_by_loop(scores))
    fused = fused_by_loop(scores)
    assert order_of(scores).tolist() == sorted(range(10), key=lambda place: (-round(fused[place], 12), place))


def test_fusion_reads_ranks_and_not_scales() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 9))
    stretched = np.stack([1000 * scores[0] + 5, np.exp(scores[1])])
    assert np.allclose(fuse_ranks(scores), fuse_ranks(stretched))


def test_without_teachers_the_ranking_decides() -> None:
    ranks = np.array([1, 2, 5, 6, 20, 31])
    taken = {
        name: select(*NOBODY, ranks, MiningOptions(count=2, margin=None, selection=name, **more), seed=3)[0].tolist()
        for name, more in (("top", {}), ("lowest", {}), ("rank", {"rank": 20}))
    }
    assert taken == {"top": [0, 1], "lowest": [5, 4], "rank": [4, 5]}
    late = MiningOptions(count=2, selection="rank", rank=31)
    assert select(*NOBODY, ranks, late, seed=3)[0].tolist() == [5]  # a short list stays short


def test_with_teachers_their_fused_order_decides() -> None:
    scores = np.array([[0.1, 0.9, 0.5, 0.3], [0.2, 0.8, 0.1, 0.3]])
    ranks = np.array([1, 2, 3, 4])
    expected = sorted(range(4), key=lambda place: -fused_by_loop(scores)[place])
    for name, wanted in (("top", expected[:2]), ("lowest", expected[::-1][:2])):
        options = MiningOptions(count=2, margin=None, selection=name)
        assert select(scores, np.ones(2), ranks, options, 0)[0].tolist() == wanted
    third = MiningOptions(count=2, selection="rank", rank=3)
    assert select(scores, np.ones(2), ranks, third, 0)[0].tolist() == expected[2:]
    searched = MiningOptions(count=4, margin=None, order="search", teacher_margin=1.0)
    kept = select(scores, np.full(2, 9.0), ranks, searched, 0)[0].tolist()
    assert kept == list(range(4)) != expected, "by rank, although teachers know better"


def test_random_draws_evenly_and_is_the_same_again() -> None:
    options = MiningOptions(count=2, margin=None, selection="random")
    draws = [choose(np.arange(6), np.arange(6), options, seed).tolist() for seed in range(3000)]
    counts = Counter(place for one in draws for place in one)
    assert all(len(set(one)) == 2 and one == sorted(one) for one in draws)
    assert all(abs(counts[place] - 1000) < 120 for place in range(6))  # over four standard deviations
    assert draws[:9] == [choose(np.arange(6), np.arange(6), options, seed).tolist() for seed in range(9)]
    assert choose(np.arange(1), np.arange(1), options, 0).tolist() == [0]


def test_what_teachers_take_out() -> None:
    nan = np.nan
    scores, positives = np.array([[0.1, nan, 0.9, 0.5], [0.2, 0.3, 0.4, 0.99]]), np.array([1.0, 1.0])
    unscored, above = judged(scores, positives, 0.95)
    assert unscored.tolist() == [False, True, False, False] and above.tolist() == [False, False, False, True]
    assert judged(scores, positives, None)[1].tolist() == [False] * 4
    unscored, above = judged(scores, np.array([1.0, nan]), 0.95)
    assert unscored.all() and not above.any()
    options = MiningOptions(count=4, margin=None, teacher_margin=0.95)
    places, out = select(scores, positives, np.arange(1, 5), options, 0)
    assert sorted(places.tolist()) == [0, 2] and out == {"unscored": 1, "teacher_margin": 1}
