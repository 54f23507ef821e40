"""How sure a figure is: bootstrap over concepts (and seeds), paired differences, Holm, the smallest difference shown.

Queries of one concept are not independent, so whole concepts are drawn with replacement; where a model was trained
with several seeds its seeds are drawn too. Every draw comes from a fixed seed: the same rows give the same interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import norm, t

DRAWS = 2000
_SEED = 20240917


def _sums(values_QM: np.ndarray, units: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Sums per unit [U, M] and queries per unit [U]."""
    names, rows = np.unique(np.asarray(units), return_inverse=True)
    sums_UM = np.zeros((len(names), values_QM.shape[1]))
    np.add.at(sums_UM, rows, values_QM)
    return sums_UM, np.bincount(rows, minlength=len(names)).astype(np.float64)


def bootstrap(values_SQM: np.ndarray, units: Sequence[str], draws: int = DRAWS, seed: int = _SEED) -> np.ndarray:
    """95% intervals of the mean over seeds and queries of M metrics, [M, 2], resampling units and seeds.

    values_SQM [S, Q, M], S = 1 where there is one seed; units [Q] names the concept of each query. One unit alone gives
    an interval without width: it says nothing about other concepts, and the row's count of queries shows it.
    """
    seeds, _, metrics = values_SQM.shape
    flat_QX = np.moveaxis(values_SQM, 0, 1).reshape(values_SQM.shape[1], -1)
    sums_UX, counts_U = _sums(flat_QX, units)
    weights_RU = _draws(len(counts_U), draws, seed)
    means_RSM = (weights_RU @ sums_UX).reshape(draws, seeds, metrics) / (weights_RU @ counts_U)[:, None, None]
    shares_RS = _draws(seeds, draws, seed + 1) / seeds
    return np.percentile(np.einsum("rsm,rs->rm", means_RSM, shares_RS), [2.5, 97.5], axis=0).T


@lru_cache(maxsize=16)  # subsets and metrics of one task draw alike
def _draws(units: int, draws: int, seed: int) -> np.ndarray:
    """How often each unit is drawn in each resample, float64 [draws, units]; rows sum to `units`."""
    chosen = np.random.default_rng((seed, units)).integers(units, size=(draws, units))
    places = (chosen + units * np.arange(draws)[:, None]).ravel()
    return np.bincount(places, minlength=draws * units).reshape(draws, units).astype(np.float64)


@dataclass(frozen=True)
class Difference:
    """A paired difference between two models on the same queries, first minus second.

    value, low, high   mean difference and its 95% interval
    p                  two-sided p value of no difference
    detectable         smallest true difference shown with 80% power at 5%, two-sided
    queries, units     how many were compared
    """

    value: float
    low: float
    high: float
    p: float
    detectable: float
    queries: int
    units: int


def paired_difference(
    first_SQ: np.ndarray, second_SQ: np.ndarray, units: Sequence[str], draws: int = DRAWS, seed: int = _SEED
) -> Difference:
    """Compare two models on the same queries, resampling concepts together and each model's seeds apart.

    first_SQ [seeds, Q] and second_SQ [seeds, Q]; a model with one seed keeps it in every draw, so its own seed noise
    is not in the interval.
    """
    if first_SQ.shape[1] != second_SQ.shape[1] or first_SQ.shape[1] != len(units):
        raise ValueError(f"queries differ: {first_SQ.shape[1]}, {second_SQ.shape[1]} and {len(units)} units")
    rng = np.random.default_rng((seed, 1))  # for seeds of training; concepts have draws of their own
    first_US, counts_U = _sums(first_SQ.T, units)
    second_US, _ = _sums(second_SQ.T, units)
    units_count = len(counts_U)
    weights_RU = _draws(units_count, draws, seed)
    totals_R = weights_RU @ counts_U
    differences_R = np.zeros(draws)
    for sign, sums_US in ((1, first_US), (-1, second_US)):
        seeds = sums_US.shape[1]
        weights_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
        differences_R += sign * np.einsum("rs,rs->r", weights_RU @ sums_US, weights_RS) / totals_R
    value = float(first_SQ.mean() - second_SQ.mean())
    low, high = np.percentile(differences_R, [2.5, 97.5])
    return Difference(
        value=value,
        low=float(low),
        high=float(high),
        p=_p_value(differences_R),
        detectable=float((norm.ppf(0.975) + norm.ppf(0.8)) * differences_R.std()),
        queries=len(units),
        units=units_count,
    )


def difference_over_seeds(gaps_SQ: np.ndarray, units: Sequence[str]) -> Difference:
    """The mean of gaps [seeds, Q] between pairs of runs of equal seed on the same queries, where seeds are few.

    Its variance is that between concepts, of their queries together and of seeds' mean, and that between seeds; the
    interval is Student's t with Satterthwaite's degrees of freedom. Two or three seeds drawn with replacement would
    show a half or two thirds of their variance. One seed alone leaves that between concepts.
    """
    seeds, queries = gaps_SQ.shape
    if queries != len(units):
        raise ValueError(f"{queries} queries and {len(units)} units")
    value = float(gaps_SQ.mean())
    sums_U1, counts_U = _sums(gaps_SQ.mean(axis=0)[:, None] - value, units)
    parts = [
        (float((sums_U1**2).sum()) / queries**2, len(counts_U)),
        (float(gaps_SQ.mean(axis=1).var()) / seeds, seeds),
    ]
    terms = [(variance * count / (count - 1), count - 1) for variance, count in parts if variance and count > 1]
    total = sum(variance for variance, _ in terms)
    freedom = total**2 / sum(variance**2 / free for variance, free in terms) if terms else 1.0
    error = total**0.5
    return Difference(
        value=value,
        low=value - error * float(t.ppf(0.975, freedom)),
        high=value + error * float(t.ppf(0.975, freedom)),
        p=float(2 * t.sf(abs(value) / error, freedom)) if error else float(value == 0),
        detectable=error * float(t.ppf(0.975, freedom) + t.ppf(0.8, freedom)),
        queries=queries,
        units=len(counts_U),
    )


def _p_value(differences_R: np.ndarray) -> float:
    """Twice the smaller tail beyond zero; never below what the number of draws can show."""
    below, above = (differences_R <= 0).sum(), (differences_R >= 0).sum()
    return float(min(1.0, 2 * (min(below, above) + 1) / (len(differences_R) + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given: below 0.05 is significant at 5% over the family."""
    order = np.argsort(p_values)
    adjusted = np.zeros(len(p_values))
    worst = 0.0
    for place, row in enumerate(order):
        worst = max(worst, (len(p_values) - place) * p_values[row])
        adjusted[row] = min(1.0, worst)
    return [float(value) for value in adjusted]
