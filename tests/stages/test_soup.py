"""Soups on dev: every candidate is scored and logged as a step of its own, and both soups are model folders."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from commonspace.models.embedder import Embedder
from commonspace.models.folder import check_golden
from commonspace.stages.soup import soup
from tests.models.tiny import tiny_embedder
from tests.stages.training import settings, start_model, write_pairs


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Dev shards and three ingredients: a model, one a little off and one far off."""
    write_pairs(tmp_path / "data/made", train=2, dev=12)
    embedder = tiny_embedder()
    for name, size in (("near", 0.0), ("beside", 0.02), ("far", 2.0)):
        folder = start_model(tmp_path / name)
        weights = load_file(folder / "model.safetensors")
        torch.manual_seed(len(name))
        parts = {key for key, value in embedder.named_parameters()}
        moved = {k: v + size * torch.randn_like(v) if k in parts else v for k, v in weights.items()}
        save_file(moved, folder / "model.safetensors")
    return tmp_path


def cook(place: Path, *more: str) -> float:
    named = f"ingredients=[{place / 'near'},{place / 'beside'},{place / 'far'}]"
    uniform = f"uniform_output={place / 'models/made/soup_uniform'}"
    given = (named, uniform, "data.tier=made", "data.features=false", "logger=csv")
    return soup(settings(place, *given, *more, root="soup"))


def test_every_candidate_is_a_step_of_its_own(place: Path) -> None:
    score = cook(place)
    (file,) = (place / "runs").rglob("metrics.csv")
    rows = [row for row in csv.DictReader(file.open()) if row["dev/mean"]]
    recipe = json.loads((place / "models/made/soup/soup.json").read_text())
    assert [int(row["step"]) for row in rows] == list(range(len(rows))) and len(rows) >= 4
    members = [tuple(name for name in ("near", "beside", "far") if float(row[f"soup/{name}"])) for row in rows]
    assert len(set(members)) == len(members), "no candidate is scored twice"
    assert members[-1] == ("near", "beside", "far") or members[-1] in {tuple(t["members"]) for t in recipe["trials"]}
    assert max(float(row["dev/mean"]) for row in rows) == pytest.approx(score)
    assert all("dev/image_caption image->text gap" in row for row in rows)


def test_the_greedy_soup_is_at_least_its_best_ingredient_and_both_load(place: Path) -> None:
    score = cook(place)
    for name, kind in (("soup", "greedy"), ("soup_uniform", "uniform")):
        folder = place / "models/made" / name
        recipe = json.loads((folder / "soup.json").read_text())
        check_golden(Embedder.load(folder), folder)
        assert recipe["kind"] == kind and {len(entry["sha256"]) for entry in recipe["ingredients"]} == {64}
    singles = [t["score"] for t in recipe["trials"] if len(t["members"]) == 1]
    assert score >= max(singles) and len(recipe["ingredients"]) == 3
