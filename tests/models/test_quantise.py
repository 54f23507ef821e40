"""Codes and searches against plain formulas, sentence-transformers and usearch."""

from __future__ import annotations

import numpy as np
import pytest

from commonspace.errors import ConfigError, DataError
from commonspace.models.quantise import calibrate, from_int8, hamming, nearest, rescore, to_binary, to_int8


def vectors(count: int, size: int = 40, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_codes_are_those_of_sentence_transformers() -> None:
    from sentence_transformers.util.quantization import quantize_embeddings

    given, others = vectors(50), vectors(200, seed=1)
    others[:, 3] = 0.25  # a dimension without a range
    ranges = calibrate(others)
    np.testing.assert_array_equal(to_int8(given, ranges), quantize_embeddings(given, "int8", ranges=ranges))
    np.testing.assert_array_equal(
        to_int8(given, ranges), quantize_embeddings(given, "int8", calibration_embeddings=others)
    )
    np.testing.assert_array_equal(to_binary(given), quantize_embeddings(given, "ubinary"))


def test_a_decoded_value_is_within_half_a_step_of_what_it_was() -> None:
    given = vectors(300)
    ranges = calibrate(given)
    step = (ranges[1] - ranges[0]) / 255
    decoded = from_int8(to_int8(given, ranges), ranges)
    assert decoded.dtype == np.float32
    assert (np.abs(decoded - given) <= 0.501 * step).all()
    beyond = from_int8(to_int8(10 * given, ranges), ranges)
    assert (beyond >= ranges[0] - 1e-6).all() and (beyond <= ranges[1] + 1e-6).all(), (
        "what is outside the ranges is clipped"
    )
    flat = np.full((4, 2), 0.3, np.float32)
    np.testing.assert_array_equal(from_int8(to_int8(flat, calibrate(flat)), calibrate(flat)), flat)


@pytest.mark.parametrize("size", [40, 13])
def test_hamming_counts_the_signs_that_differ(size: int) -> None:
    queries, items = vectors(7, size), vectors(30, size, seed=1)
    expected = ((queries[:, None] > 0) != (items[None] > 0)).sum(-1)
    np.testing.assert_array_equal(hamming(to_binary(queries), to_binary(items)), expected)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, items = to_binary(vectors(9)), to_binary(vectors(30, seed=1))
    whole = hamming(queries, items)
    monkeypatch.setattr("commonspace.models.quantise._BLOCK", 2 * items.size)
    np.testing.assert_array_equal(hamming(queries, items), whole)


@pytest.mark.parametrize("count", [1, 5, 30, 99])
def test_the_nearest_come_first_and_ties_go_to_the_earlier(count: int) -> None:
    distances = np.random.default_rng(0).integers(0, 6, (8, 30))
    expected = np.argsort(distances, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(nearest(distances, count), expected)
    with pytest.raises(ConfigError, match="count=0"):
        nearest(distances, 0)


def test_hamming_search_finds_what_usearch_finds() -> None:
    from usearch.index import search

    queries, items = to_binary(vectors(6, 64)), to_binary(vectors(200, 64, seed=1))
    distances = hamming(queries, items)
    found = search(items, queries, 10, metric="hamming", dtype="b1", exact=True)
    ours = np.take_along_axis(distances, nearest(distances, 10), axis=1)
    np.testing.assert_array_equal(ours, found.distances)


def test_rescoring_everything_is_the_float_search_and_int8_is_near_it() -> None:
    queries, items = vectors(5), vectors(60, seed=1)
    candidates = nearest(hamming(to_binary(queries), to_binary(items)), 20)
    exact = np.take_along_axis(queries @ items.T, candidates, axis=1)
    np.testing.assert_allclose(rescore(queries, items, candidates), exact, atol=1e-6)
    ranges = calibrate(items)
    decoded = np.take_along_axis(queries @ from_int8(to_int8(items, ranges), ranges).T, candidates, axis=1)
    np.testing.assert_allclose(rescore(queries, to_int8(items, ranges), candidates, ranges), decoded, atol=1e-6)
    assert np.abs(decoded - exact).max() < 0.01


def test_rescored_candidates_find_more_than_signs_alone() -> None:
    items = vectors(400, 64, seed=1)
    noise = np.random.default_rng(2).normal(size=(100, 64)).astype(np.float32)
    queries = items[:100] + 0.15 * noise
    distances = hamming(to_binary(queries), to_binary(items))
    by_sign = (nearest(distances, 1)[:, 0] == np.arange(100)).mean()
    candidates = nearest(distances, 40)
    best = np.take_along_axis(candidates, rescore(queries, items, candidates).argmax(1)[:, None], axis=1)[:, 0]
    by_float = ((queries @ items.T).argmax(1) == np.arange(100)).mean()
    assert by_sign < (best == np.arange(100)).mean() <= by_float


def test_what_does_not_fit_is_refused() -> None:
    ranges = calibrate(vectors(3))
    with pytest.raises(DataError, match="vectors of 8 against 40"):
        to_int8(vectors(3, 8), ranges)
    with pytest.raises(DataError, match="1 vectors to take ranges from"):
        calibrate(vectors(1))
    with pytest.raises(DataError, match="all finite"):
        calibrate(np.full((3, 2), np.nan))
    with pytest.raises(ConfigError, match="ranges belong to int8"):
        rescore(vectors(1), vectors(2), np.zeros((1, 1), int), ranges)
