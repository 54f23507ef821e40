"""Measures of the space on shapes whose answer is known, and on a suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.evaluation.geometry import (
    alignment,
    effective_rank,
    geometry,
    hubness,
    modality_gap,
    summary,
    uniformity,
)
from commonspace.evaluation.ranking import truncate
from commonspace.evaluation.suite import build_suite
from tests.evaluation.made import HashModel


def cloud(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return truncate(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), None)


def test_gap_and_alignment() -> None:
    first = torch.eye(3)[:1].repeat(5, 1)
    assert modality_gap(first, -first) == pytest.approx(2.0) and modality_gap(first, first) == 0.0
    assert alignment(first, torch.eye(3)[1:2].repeat(5, 1)) == pytest.approx(2.0)


def test_uniformity_of_one_point_and_of_a_sphere() -> None:
    assert uniformity(torch.eye(4)[:1].repeat(6, 1)) == pytest.approx(0.0, abs=1e-6)
    # On a sphere of many dimensions squared distances gather around 2: log exp(-4) = -4.
    assert uniformity(cloud(2500, 256)) == pytest.approx(-4.0, abs=0.05)


def test_effective_rank_counts_directions() -> None:
    assert effective_rank(cloud(4000, 16)) == pytest.approx(16, rel=0.02)
    flat = torch.zeros(500, 16)
    flat[:, :3] = cloud(500, 3)
    assert effective_rank(flat + 5) == pytest.approx(3, rel=0.05)


def test_a_hub_skews_what_is_near() -> None:
    common = torch.eye(64)[:1]
    queries, items = truncate(cloud(300, 64, 1) + 0.5 * common, None), cloud(300, 64, 2)
    items = items - items[:, :1] * common  # none leans where all queries lean, but for the hub
    assert hubness(queries, torch.cat([items, common])) > hubness(queries, items) + 5


def test_figures_of_a_suite(tier: Path, blind: HashModel) -> None:
    suite = build_suite(tier)
    figures = geometry(blind, suite)
    assert set(figures["modality_gap"]) >= {"image | text", "text | video", "image+text | text"}
    assert all(0 <= value <= 1 for value in figures["mixed_recall_at_1"].values())
    assert all(np.isfinite(value) for some in figures.values() for value in some.values())
    known = HashModel(lambda content: "one point")
    assert geometry(known, suite)["modality_gap"]["image | text"] == pytest.approx(0, abs=1e-6)


def test_asymmetry_is_the_difference_of_two_reciprocal_ranks(tier: Path, blind: HashModel) -> None:
    """Against ranks counted by hand: every item that scores at least as well as the best right one stands before it."""
    suite = build_suite(tier)
    ways = {task.direction: task for task in suite.tasks if task.name == "image_caption" and not task.grouped}
    means = {}
    for way, task in ways.items():
        scores_QG = blind.embed(task.queries).astype(float) @ blind.embed(task.gallery).astype(float).T
        places = []
        for query, row in enumerate(scores_QG):
            right = set(task.relevance.of(query).tolist())
            best = max(row[item] for item in right)
            places.append(1 + sum(row[item] >= best - 1e-9 for item in range(len(row)) if item not in right))
        means[way] = np.mean(1 / np.array(places))
    found = geometry(blind, suite)["direction_asymmetry"]["image_caption image->text - text->image"]
    assert found == pytest.approx(means["image->text"] - means["text->image"], abs=1e-6) and abs(found) > 1e-3


def test_a_summary_has_few_figures_and_means_of_tasks(tier: Path, blind: HashModel) -> None:
    figures = geometry(blind, build_suite(tier))
    short = summary(figures)
    assert short["hubness"] == pytest.approx(np.mean(list(figures["hubness"].values())))
    assert short["direction_asymmetry"] == pytest.approx(np.mean(np.abs(list(figures["direction_asymmetry"].values()))))
    assert short["modality_gap image | text"] == figures["modality_gap"]["image | text"]
    assert all(np.isfinite(value) for value in short.values())
    assert summary({**figures, "direction_asymmetry": {}}).keys() == short.keys() - {"direction_asymmetry"}
