"""Soups beside their rows: the recipe that is kept, the ingredient that dev puts first, and the difference to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commonspace.evaluation.intervals import holm
from commonspace.evaluation.results import write_ranks
from commonspace.evaluation.soups import against_best, best_ingredients, keep_recipe, read_recipes

BOTH = [{"name": "warm", "share": 0.5, "dev": 0.6}, {"name": "base", "share": 0.5, "dev": 0.5}]
NAMES = ["warm", "base", "cold", "soup", "alone"]


def write_recipe(folder: Path, name: str, ingredients: list[dict], **more: object) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "soup.json").write_text(json.dumps({"ingredients": ingredients, **more}))
    keep_recipe(folder / name, folder / f"{name}.jsonl")


def write_model(folder: Path, model: str, seed: int) -> pd.DataFrame:
    """Reciprocal ranks of eight concepts in two tasks and a grouped one."""
    rows = [
        {
            "task": task,
            "direction": "a->b",
            "query": f"{task}{n}",
            "concept": f"c{n}",
            "grouped": task == "crosslingual",
        }
        for task in ("code", "speech", "crosslingual")
        for n in range(8)
    ]
    table = pd.DataFrame(rows).assign(dim=384, near_duplicate="", seed=None)
    table = table.assign(unit=table["concept"], **{"MRR@10": np.random.default_rng(seed).random(len(table))})
    write_ranks(folder, model, table)
    return table


def test_a_recipe_lies_beside_the_rows_of_a_soup_and_of_no_other_model(tmp_path: Path) -> None:
    write_recipe(tmp_path, "soup", BOTH)
    assert read_recipes(tmp_path) == {"soup": {"ingredients": BOTH}}
    (tmp_path / "soup/soup.json").unlink()  # trained under the name of an earlier soup
    keep_recipe(tmp_path / "soup", tmp_path / "soup.jsonl")
    assert read_recipes(tmp_path) == {}


def test_the_best_ingredient_is_the_one_dev_puts_first_those_left_out_too(tmp_path: Path) -> None:
    write_recipe(
        tmp_path,
        "soup",
        BOTH,
        trials=[{"members": ["cold"], "score": 0.7}, {"members": ["cold", "warm"], "score": 0.9}],
    )
    write_recipe(tmp_path, "alone", BOTH[:1])
    write_recipe(tmp_path, "elsewhere", BOTH)
    assert best_ingredients(tmp_path, NAMES) == {"soup": "cold"}


def test_every_task_of_a_soup_is_compared_with_its_best_ingredient(tmp_path: Path) -> None:
    write_recipe(tmp_path, "soup", BOTH)
    assert against_best(tmp_path, NAMES) == [], "no ranks lie here"
    soup, warm, _ = (write_model(tmp_path, name, seed) for seed, name in enumerate(("soup", "warm", "base")))
    found = against_best(tmp_path, NAMES)
    assert [(one.model, one.baseline, one.task) for one in found] == [
        ("soup", "warm", "code"),
        ("soup", "warm", "crosslingual"),
        ("soup", "warm", "speech"),
    ]
    gaps = (soup["MRR@10"] - warm["MRR@10"]).groupby(soup["task"]).mean()
    assert {one.task: one.difference.value for one in found} == pytest.approx(gaps.to_dict())
    assert [one.p_holm for one in found] == holm([one.difference.p for one in found])
