"""A response surface over mixtures: scores as a smooth function of shares that add up to one (Scheffe 1958)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from commonspace.errors import DataError

_PENALTIES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Surface:
    """score = mean + sum_i a_i (x_i - mean x_i) + sum_{i<j} b_ij (x_i x_j - its mean), with a ridge penalty.

    error          root mean square error on mixtures that were left out, one at a time
    error_of_mean  the same of guessing the mean of the others: a surface that does no better says nothing
    """

    media: tuple[str, ...]
    centre: np.ndarray
    offset: float
    coefficients: np.ndarray
    penalty: float
    error: float
    error_of_mean: float
    mixtures: int

    @property
    def explains(self) -> bool:
        """Whether it foretells mixtures that it has not seen better than their mean does."""
        return self.error < self.error_of_mean

    def predict(self, shares_NM: np.ndarray) -> np.ndarray:
        """Scores float64 [N] of mixtures [N, M], in the order of `media`."""
        return self.offset + (_terms(shares_NM) - self.centre) @ self.coefficients

    def best(self, draws: int = 20_000, seed: int = 1) -> dict[str, float]:
        """The mixture that it puts highest, of many drawn evenly over all of them."""
        drawn = np.random.default_rng(seed).dirichlet(np.ones(len(self.media)), draws)
        return dict(zip(self.media, drawn[self.predict(drawn).argmax()].tolist(), strict=True))


def fit_surface(shares_NM: np.ndarray, scores_N: np.ndarray, media: Sequence[str]) -> Surface:
    """Fit a surface; the penalty is the one of a few whose error on mixtures left out is least.

    That error is a little flattering, as the penalty is chosen by it. Raises DataError for fewer than six mixtures, or
    shares that do not add up to one.
    """
    shares_NM, scores_N = np.asarray(shares_NM, dtype=np.float64), np.asarray(scores_N, dtype=np.float64)
    if len(shares_NM) < 6 or shares_NM.shape != (len(scores_N), len(media)):
        raise DataError(f"a surface wants at least six mixtures of {len(media)} media, not shares {shares_NM.shape}")
    if not np.allclose(shares_NM.sum(axis=1), 1, atol=1e-6):
        raise DataError("shares of a mixture add up to one; these do not")
    terms = _terms(shares_NM)
    errors = {penalty: _left_out(terms, scores_N, penalty) for penalty in _PENALTIES}
    penalty = min(errors, key=lambda one: errors[one])
    centre, offset, coefficients = _ridge(terms, scores_N, penalty)
    count = len(scores_N)
    of_mean = float(np.sqrt(np.mean(((scores_N - scores_N.mean()) * count / (count - 1)) ** 2)))
    return Surface(tuple(media), centre, offset, coefficients, penalty, errors[penalty], of_mean, count)


def _terms(shares_NM: np.ndarray) -> np.ndarray:
    pairs = [shares_NM[:, i] * shares_NM[:, j] for i, j in combinations(range(shares_NM.shape[1]), 2)]
    return np.column_stack([shares_NM, *pairs])


def _ridge(terms: np.ndarray, scores_N: np.ndarray, penalty: float) -> tuple[np.ndarray, float, np.ndarray]:
    centre, offset = terms.mean(axis=0), float(scores_N.mean())
    inner = terms - centre
    gram = inner.T @ inner + penalty * np.eye(terms.shape[1])
    return centre, offset, np.linalg.solve(gram, inner.T @ (scores_N - offset))


def _left_out(terms: np.ndarray, scores_N: np.ndarray, penalty: float) -> float:
    gaps = []
    for place in range(len(scores_N)):
        kept = np.arange(len(scores_N)) != place
        centre, offset, coefficients = _ridge(terms[kept], scores_N[kept], penalty)
        gaps.append(scores_N[place] - offset - (terms[place] - centre) @ coefficients)
    return float(np.sqrt(np.mean(np.square(gaps))))
