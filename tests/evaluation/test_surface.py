"""The response surface: a quadratic is found again, noise is not taken for one, errors are of unseen mixtures."""

from __future__ import annotations

import numpy as np
import pytest

from commonspace.errors import DataError
from commonspace.evaluation.surface import fit_surface

MEDIA = ("image", "audio", "text")


def mixtures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(3), count)


def truth(shares_NM: np.ndarray) -> np.ndarray:
    return 0.3 + 0.2 * shares_NM[:, 0] + 0.8 * shares_NM[:, 0] * shares_NM[:, 1]


def test_a_quadratic_is_found_again_and_its_best_mixture() -> None:
    shares = mixtures(24)
    surface = fit_surface(shares, truth(shares), MEDIA)
    unseen = mixtures(50, seed=1)
    np.testing.assert_allclose(surface.predict(unseen), truth(unseen), atol=1e-3)
    assert surface.explains and surface.error < 1e-3
    best = surface.best()  # d/dx0 of 0.2 x0 + 0.8 x0 (1 - x0): x0 = 0.625
    assert best["image"] == pytest.approx(0.625, abs=0.04) and best["text"] < 0.05


def ridge_by_rows(terms: np.ndarray, scores: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge as least squares with a row of sqrt(penalty) for each coefficient; the intercept is not held back."""
    width = terms.shape[1]
    rows = np.vstack([np.column_stack([np.ones(len(terms)), terms]), np.eye(width + 1)[1:] * np.sqrt(penalty)])
    return np.linalg.lstsq(rows, np.concatenate([scores, np.zeros(width)]))[0]


PENALTIES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def left_out(terms: np.ndarray, scores: np.ndarray, penalty: float) -> np.ndarray:
    """What ridge regression without it says of each row."""
    told = []
    for place in range(len(scores)):
        kept = np.delete(np.arange(len(scores)), place)
        weights = ridge_by_rows(terms[kept], scores[kept], penalty)
        told.append(weights[0] + terms[place] @ weights[1:])
    return np.array(told)


def best_penalty(terms: np.ndarray, scores: np.ndarray) -> float:
    return min(PENALTIES, key=lambda penalty: np.mean((scores - left_out(terms, scores, penalty)) ** 2))


def test_the_error_is_that_of_mixtures_which_neither_fit_nor_penalty_saw() -> None:
    shares = mixtures(12)
    scores = truth(shares) + np.random.default_rng(5).normal(0, 0.05, 12)
    surface = fit_surface(shares, scores, MEDIA)
    pairs = [shares[:, i] * shares[:, j] for i, j in ((0, 1), (0, 2), (1, 2))]
    terms, told, chosen = np.column_stack([shares, *pairs]), [], []
    for place in range(12):
        kept = np.delete(np.arange(12), place)
        chosen.append(best_penalty(terms[kept], scores[kept]))
        told.append(left_out(terms, scores, chosen[-1])[place])
    assert len(set(chosen)) > 1, "scores whose penalty hangs on who is left out"
    np.testing.assert_allclose(surface.left_out, told, rtol=1e-6)
    assert surface.penalty == best_penalty(terms, scores)
    assert surface.error == pytest.approx(np.sqrt(np.mean((scores - told) ** 2)), rel=1e-6)
    flattering = np.sqrt(np.mean((scores - left_out(terms, scores, surface.penalty)) ** 2))
    assert surface.error != pytest.approx(flattering, rel=1e-3)
    means = [np.delete(scores, place).mean() for place in range(12)]
    assert surface.error_of_mean == pytest.approx(np.sqrt(np.mean((scores - means) ** 2)))


def test_noise_is_no_surface() -> None:
    shares, draw = mixtures(24), np.random.default_rng(3)
    said = [fit_surface(shares, draw.normal(size=24), MEDIA) for _ in range(10)]
    assert np.mean([one.error / one.error_of_mean for one in said]) > 0.95


def test_too_few_or_no_mixtures_are_refused() -> None:
    with pytest.raises(DataError, match="at least six"):
        fit_surface(mixtures(5), np.zeros(5), MEDIA)
    with pytest.raises(DataError, match="add up to one"):
        fit_surface(mixtures(8) * 2, np.zeros(8), MEDIA)
