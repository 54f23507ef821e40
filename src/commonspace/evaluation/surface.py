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

    most           the largest share of each medium among the mixtures it was fitted to
    left_out       what surfaces fitted without a mixture say of it [N], each with a penalty chosen without it too
    error          root mean square error of these: on mixtures that neither the fit nor its penalty has seen
    error_of_mean  the same of guessing the mean of the others: a surface that does no better says nothing
    """

    media: tuple[str, ...]
    most: np.ndarray
    centre: np.ndarray
    offset: float
    coefficients: np.ndarray
    penalty: float
    left_out: np.ndarray
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
        """The mixture that it puts highest, of their mean and of many drawn evenly.

        None has more of a medium than the mixtures it was fitted to.
        """
        drawn = np.random.default_rng(seed).dirichlet(np.ones(len(self.media)), draws)
        drawn = np.vstack([self.centre[: len(self.media)], drawn[(drawn <= self.most).all(axis=1)]])
        return dict(zip(self.media, drawn[self.predict(drawn).argmax()].tolist(), strict=True))


def fit_surface(shares_NM: np.ndarray, scores_N: np.ndarray, media: Sequence[str]) -> Surface:
    """Fit a surface; the penalty is the one of a few whose error on mixtures left out, one at a time, is least.

    For `left_out` and `error` both are done anew without the mixture that is foretold. Raises DataError for fewer than
    six mixtures, or shares that do not add up to one.
    """
    shares_NM, scores_N = np.asarray(shares_NM, dtype=np.float64), np.asarray(scores_N, dtype=np.float64)
    if len(shares_NM) < 6 or shares_NM.shape != (len(scores_N), len(media)):
        raise DataError(f"a surface wants at least six mixtures of {len(media)} media, not shares {shares_NM.shape}")
    if not np.allclose(shares_NM.sum(axis=1), 1, atol=1e-6):
        raise DataError("shares of a mixture add up to one; these do not")
    terms = _terms(shares_NM)
    penalty, centre, offset, coefficients = _chosen(terms, scores_N)
    left_out_N = np.array([_without(place, terms, scores_N) for place in range(len(scores_N))])
    error = float(np.sqrt(np.mean((scores_N - left_out_N) ** 2)))
    count = len(scores_N)
    of_mean = float(np.sqrt(np.mean(((scores_N - scores_N.mean()) * count / (count - 1)) ** 2)))
    return Surface(
        tuple(media), shares_NM.max(axis=0), centre, offset, coefficients, penalty, left_out_N, error, of_mean, count
    )


def _terms(shares_NM: np.ndarray) -> np.ndarray:
    pairs = [shares_NM[:, i] * shares_NM[:, j] for i, j in combinations(range(shares_NM.shape[1]), 2)]
    return np.column_stack([shares_NM, *pairs])


def _chosen(terms: np.ndarray, scores_N: np.ndarray) -> tuple[float, np.ndarray, float, np.ndarray]:
    """Penalty, centre, offset and coefficients of ridge regression.

    The error of leaving one out has a closed form: its residual in the whole fit over one less its leverage.
    """
    centre, offset = terms.mean(axis=0), float(scores_N.mean())
    inner, gaps_N = terms - centre, scores_N - offset
    fits = {}
    for penalty in _PENALTIES:
        solved = np.linalg.solve(inner.T @ inner + penalty * np.eye(terms.shape[1]), inner.T)
        leverage_N = 1 / len(scores_N) + np.einsum("nt,tn->n", inner, solved)
        residuals_N = gaps_N - inner @ (solved @ gaps_N)
        fits[penalty] = float(np.mean((residuals_N / (1 - leverage_N)) ** 2)), solved @ gaps_N
    penalty = min(fits, key=lambda one: fits[one][0])
    return penalty, centre, offset, fits[penalty][1]


def _without(place: int, terms: np.ndarray, scores_N: np.ndarray) -> float:
    kept = np.arange(len(scores_N)) != place
    _, centre, offset, coefficients = _chosen(terms[kept], scores_N[kept])
    return float(offset + (terms[place] - centre) @ coefficients)
