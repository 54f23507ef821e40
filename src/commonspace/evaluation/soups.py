"""Soups beside their rows: an evaluated soup's recipe is kept there, and the soup compared with its best ingredient."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commonspace.evaluation.comparison import Compared, compare_models
from commonspace.evaluation.results import ranks_path, read_ranks
from commonspace.models.folder import read_json

_KEPT = ".soup.json"


def keep_recipe(model: Path, rows: Path) -> None:
    """Copy the recipe of a souped folder to `<rows>.soup.json`; of any other model remove what lies there."""
    kept = rows.with_suffix(_KEPT)
    if (model / "soup.json").is_file():
        shutil.copyfile(model / "soup.json", kept)
    else:
        kept.unlink(missing_ok=True)


def read_recipes(folder: Path) -> dict[str, dict[str, Any]]:
    """{model: its recipe} of the soups whose rows lie in a folder."""
    return {path.name.removesuffix(_KEPT): read_json(path) for path in sorted(folder.glob(f"*{_KEPT}"))}


def on_dev(recipe: Mapping[str, Any]) -> dict[str, float]:
    """{ingredient: dev score}, those that a greedy search tried and left out too."""
    tried = {one["members"][0]: one["score"] for one in recipe.get("trials", []) if len(one["members"]) == 1}
    return {one["name"]: one["dev"] for one in recipe["ingredients"] if one.get("dev") is not None} | tried


def best_ingredients(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """{soup: the ingredient that dev puts first} of the soups among `names` that average several models."""
    best = {}
    for soup, recipe in read_recipes(folder).items():
        if soup in names and len(recipe["ingredients"]) > 1 and (scores := on_dev(recipe)):
            best[soup] = max(scores, key=lambda name: scores[name])
    return best


def against_best(folder: Path, names: Sequence[str]) -> list[Compared]:
    """Every soup less its best ingredient, task by task, where the ranks of both lie; Holm over a soup's tasks."""
    found: list[Compared] = []
    for soup, best in best_ingredients(folder, names).items():
        if all(ranks_path(folder, name).is_file() for name in (soup, best)):
            tasks = set(read_ranks(folder, soup)["task"]) & set(read_ranks(folder, best)["task"])
            found += compare_models(folder, soup, best, sorted(tasks))
    return found
