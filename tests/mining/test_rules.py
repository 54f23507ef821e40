"""Every rule against a plain loop over queries and neighbours."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from commonspace.mining.options import MiningOptions
from commonspace.mining.rules import (
    NOTHING,
    RULES,
    Identities,
    above_margin,
    apply_rules,
    code,
    first_of_each,
    ranks_of_free,
    within_distance,
)


def identities(count: int, seed: int) -> Identities:
    rng = np.random.default_rng(seed)
    few = lambda: rng.integers(1, count // 2, count)  # noqa: E731
    texts = [np.where(rng.random(count) < 0.5, NOTHING, few()) for _ in range(2)]
    return Identities(few() + 1000, few() + 2000, few() + 3000, *texts)


def neighbours(count: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = np.stack([rng.permutation(count)[:width] for _ in range(count)])
    scores = -np.sort(-rng.uniform(-0.3, 1, (count, width)), axis=1).astype(np.float32)
    return found, scores, rng.uniform(-0.3, 1, count).astype(np.float32)


def judge(ids: Identities, query: int, other: int) -> str | None:
    """The first rule on identities that names a pair."""
    if query == other:
        return "self"
    if ids.query_ids[query] == ids.query_ids[other] or ids.target_ids[query] == ids.target_ids[other]:
        return "same_id"
    if ids.concepts[query] == ids.concepts[other]:
        return "same_concept"
    own, theirs = ({ids.query_texts[row], ids.target_texts[row]} - {NOTHING} for row in (query, other))
    return "same_text" if own & theirs else None


def by_loop(ids, found, scores, positives, options: MiningOptions, cosines) -> tuple[list, dict[str, int]]:
    dropped = dict.fromkeys(RULES, 0)
    lists = []
    for query in range(len(found)):
        rank, seen, kept = 0, set(), []
        for other, score in zip(found[query], scores[query], strict=True):
            named = judge(ids, query, other)
            if named is None and rank == options.depth:
                break
            if named is not None:
                if rank < options.depth:
                    dropped[named] += 1
                continue
            rank += 1
            positive = positives[query]
            slack = (1 - (options.margin or 0)) * abs(positive)
            if rank <= options.skip:
                dropped["above_window"] += 1
            elif options.margin is not None and score > np.float32(positive - slack):
                dropped["margin"] += 1
            elif options.absolute_margin is not None and score > np.float32(positive - options.absolute_margin):
                dropped["absolute_margin"] += 1
            elif options.max_score is not None and score > options.max_score:
                dropped["max_score"] += 1
            elif options.min_score is not None and score < options.min_score:
                dropped["min_score"] += 1
            elif options.duplicate is not None and cosines[query, other] > options.duplicate:
                dropped["duplicate"] += 1
            elif ids.target_ids[other] in seen:
                dropped["repeated"] += 1
            else:
                seen.add(ids.target_ids[other])
                kept.append((int(other), rank))
        lists.append(kept)
    return lists, dropped


OPTIONS = [
    MiningOptions(count=2, depth=8, margin=None),
    MiningOptions(count=2, depth=12, skip=3),
    MiningOptions(count=2, depth=12, margin=None, absolute_margin=0.2),
    MiningOptions(count=2, depth=12, margin=None, max_score=0.7, min_score=0.1),
    MiningOptions(count=2, depth=12, margin=None, duplicate=0.3),
    MiningOptions(2, skip=1, depth=10, margin=0.9, absolute_margin=0.01, max_score=0.8, min_score=0.0, duplicate=0.5),
]  # fmt: skip


@pytest.mark.parametrize(("options", "seed"), list(product(OPTIONS, (1, 2))))
def test_rules_equal_a_plain_loop(options: MiningOptions, seed: int) -> None:
    ids, (found, scores, positives) = identities(30, seed), neighbours(30, 25, seed)
    cosines = np.random.default_rng(seed).uniform(-1, 1, (30, 30))
    rows = np.arange(30)
    kept = apply_rules(rows, found, scores, positives, ids, options, lambda a, b: cosines[a, b])
    expected, dropped = by_loop(ids, found, scores, positives, options, cosines)
    assert kept.counts.tolist() == [len(one) for one in expected]
    assert list(zip(kept.rows.tolist(), kept.ranks.tolist(), strict=True)) == [one for row in expected for one in row]
    assert kept.dropped == dropped and sum(dropped.values()) > 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_identities_equal_a_plain_loop(seed: int) -> None:
    ids = identities(20, seed)
    rows, found = np.arange(20), np.tile(np.arange(20), (20, 1))
    named = ids.known_correct(rows, found)
    any_QK = np.logical_or.reduce(list(named.values()))
    assert [[judge(ids, q, k) is not None for k in range(20)] for q in range(20)] == any_QK.tolist()
    assert any_QK.sum(1).max() <= ids.most_correct()


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_the_margin_is_below_the_positive_on_either_side_of_zero(share: float) -> None:
    """A share of a negative score lies above it: the bar must not rise there."""
    scores = np.linspace(-1, 1, 201, dtype=np.float32)[None]
    for positive in (-0.6, -0.1, 0.0, 0.3, 0.9):
        taken = above_margin(scores, np.array([positive], dtype=np.float32), share)[0]
        for score, out in zip(scores[0], taken, strict=True):
            if abs(score - (positive - (1 - share) * abs(positive))) > 1e-4:
                assert out == (score > positive - (1 - share) * abs(positive))
            if score > positive + 1e-4:
                assert out
    assert above_margin(np.array([[0.96, 0.94]]), np.array([1.0]), 0.95).tolist() == [[True, False]]
    assert within_distance(np.array([[0.75, 0.65]]), np.array([1.0]), 0.3).tolist() == [[True, False]]


def test_small_pieces_equal_plain_loops() -> None:
    rng = np.random.default_rng(0)
    free = rng.random((6, 9)) < 0.6
    assert ranks_of_free(free).tolist() == [[sum(row[: k + 1]) for k in range(9)] for row in free.tolist()]
    ids = rng.integers(0, 4, 12)
    assert first_of_each(ids).tolist() == [place for place in range(12) if ids[place] not in ids[:place]]
    assert code(None) == NOTHING and code("a") == code("a") != code("b") and code("") != NOTHING


def test_a_neighbour_that_is_none_is_never_kept() -> None:
    ids = Identities(*(np.arange(3) + 10 * n for n in range(3)), np.zeros(3, int), np.zeros(3, int))
    found, scores = np.array([[1, 2, 0]]), np.array([[0.5, -np.inf, -np.inf]])
    kept = apply_rules(np.array([0]), found, scores, np.array([1.0]), ids, MiningOptions(count=1, depth=3))
    assert kept.rows.tolist() == [1] and kept.dropped["self"] == 0
