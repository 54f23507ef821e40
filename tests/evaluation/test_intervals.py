"""Intervals cover what they say, differences are paired, Holm is Holm."""

from __future__ import annotations

import numpy as np
import pytest

from commonspace.evaluation.intervals import bootstrap, difference_over_seeds, holm, paired_difference


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        concepts = rng.normal(size=60)
        values = np.repeat(concepts, 5)[:, None] + rng.normal(size=(300, 1))
        low, high = bootstrap(values[None], np.repeat(np.arange(60), 5).tolist(), draws=300)[0]
        covered += low <= 0 <= high
    assert 180 <= covered <= 199


def test_copies_of_a_concept_do_not_narrow_an_interval() -> None:
    values = np.random.default_rng(1).normal(size=(40, 1))
    units = [str(row) for row in range(40)]
    once = bootstrap(values[None], units)
    ten_times = bootstrap(np.repeat(values, 10, axis=0)[None], np.repeat(units, 10).tolist())
    np.testing.assert_allclose(once, ten_times, atol=1e-12)


def test_equal_models_do_not_differ_and_better_ones_do() -> None:
    rng = np.random.default_rng(2)
    hard = rng.uniform(size=200)
    units = [str(row) for row in range(200)]
    same = paired_difference(hard[None], hard[None], units)
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)
    better = paired_difference((hard + 0.02)[None], hard[None], units)
    assert better.low == pytest.approx(0.02) and better.p < 0.01, "what both find hard cancels out"


def test_seeds_widen_the_interval_and_the_detectable_difference() -> None:
    rng = np.random.default_rng(3)
    units = [str(row) for row in range(300)]
    base = rng.uniform(size=300)
    seeds = base + np.linspace(-0.05, 0.05, 5)[:, None]
    alone = paired_difference(base[None], base[None] + rng.normal(size=(1, 300)) * 0.01, units)
    several = paired_difference(base[None], seeds, units)
    assert several.high - several.low > 5 * (alone.high - alone.low)
    assert several.detectable == pytest.approx(2.8 * (several.high - several.low) / 3.92, rel=0.1)


@pytest.mark.parametrize("noisy", ["seeds", "concepts", "both"])
def test_three_seeds_cover_the_truth_as_often_as_they_say(noisy: str) -> None:
    rng, covered, units = np.random.default_rng(4), 0, np.repeat(np.arange(40), 3)
    for _ in range(400):
        seeds, concepts = rng.normal(size=(3, 1)), rng.normal(size=40)[units]
        gaps = (noisy != "concepts") * seeds + (noisy != "seeds") * concepts + rng.normal(size=(3, 120)) * 0.1
        found = difference_over_seeds(gaps, units.tolist())
        covered += found.low <= 0 <= found.high
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert 370 <= covered <= 394


def test_one_seed_has_the_interval_of_concepts_alone() -> None:
    rng = np.random.default_rng(5)
    gaps, units = rng.normal(0.1, 1, size=(1, 400)), [str(row // 2) for row in range(400)]
    found, resampled = difference_over_seeds(gaps, units), paired_difference(gaps, np.zeros((1, 400)), units)
    assert (found.value, found.queries, found.units) == (pytest.approx(resampled.value), 400, 200)
    assert found.high - found.low == pytest.approx(resampled.high - resampled.low, rel=0.05)
    assert found.detectable == pytest.approx(resampled.detectable, rel=0.05)
    same = difference_over_seeds(np.zeros((3, 400)), units)
    assert (same.value, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_holm_steps_down_and_keeps_the_order() -> None:
    assert holm([0.01, 0.04]) == pytest.approx([0.02, 0.04])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.9, 0.001, 0.8]) == pytest.approx([1.0, 0.003, 1.0])


def test_models_on_other_queries_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="queries differ"):
        paired_difference(np.zeros((1, 3)), np.zeros((1, 4)), ["a"] * 3)
