"""Cells read back and contrasts between levels, against scipy's paired test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from commonspace.errors import DataError
from commonspace.evaluation.ablations import base_cells, cells, contrasts
from commonspace.evaluation.intervals import holm
from commonspace.tracking.reader import Run


def run(
    name: str, temperature: float, seed: int, mean: float | None, started: float = 0.0, tag: str = "t", **config: object
) -> Run:
    scores = {"final/mean": [mean], "final/a": [mean / 2]} if mean else {}
    history, tags = pd.DataFrame({"trainer/global_step": [1], **scores}), ("ablation", tag)
    config = {
        "stage": {"temperature": temperature}, "seed": seed, "data": {"without": ["image", "text"], "tier": "mini"},
        "save": False, "init": "models/mini/pretrain", "name": name, "run": {"id": name}, **config,
    }  # fmt: skip
    return Run(f"id-{name}-{started}", name, "p", "g", tags, config, {}, history, started, "finished", (Path("x"),))


@pytest.fixture
def table() -> pd.DataFrame:
    draw = np.random.default_rng(0)
    runs = [run(f"t{t}s{s}", t, s, 0.5 + t + draw.normal(0, 0.01)) for t in (0.1, 0.2, 0.4) for s in (1, 2, 3)]
    others = [run("open", 0.1, 9, None), run("other", 0.1, 8, 0.5, tag="x")]
    return cells([*runs, *others], "t", ["stage.temperature", "seed"], "mini")


def test_cells_are_the_finished_runs_of_a_family_and_the_latest_of_a_name(table: pd.DataFrame) -> None:
    assert len(table) == 9 and set(table) == {"run", "name", "stage.temperature", "seed", "final/mean", "final/a"}
    again = cells([run("x", 0.1, 1, 0.5), run("x", 0.1, 1, 0.7, started=9.0)], "t", ["data.without"], "mini")
    assert again["final/mean"].tolist() == [0.7] and again["data.without"].tolist() == ["image-text"]
    with pytest.raises(DataError, match="no finished cell of tier mini from 'pretrain' has the tag 'absent'"):
        cells([], "absent", [], "mini")


def test_fine_tunes_with_the_tag_other_tiers_and_other_starts_are_no_cells() -> None:
    own = run("own", 0.1, 1, 0.5)
    others = [
        run("kept", 0.1, 1, 0.9, save=True),
        run("tiny", 0.1, 1, 0.9, data={"tier": "tiny"}),
        run("aligned", 0.1, 1, 0.9, init="models/mini/align"),
        run("towers", 0.1, 1, 0.9, init=None),
    ]
    assert cells([own, *others], "t", ["seed"], "mini")["name"].tolist() == ["own"]
    assert cells([own, *others], "t", ["seed"], "mini", "align")["name"].tolist() == ["aligned"]
    elsewhere = run("elsewhere", 0.1, 1, 0.9, init="/other/models/mini/pretrain", tag="x")
    with pytest.raises(DataError, match="begin at /other/models/mini/pretrain, models/mini/pretrain; name the one"):
        cells([own, elsewhere], "t", ["seed"], "mini")
    assert cells([own, elsewhere], "x", ["seed"], "mini", "/other/models/mini/pretrain")["name"].tolist() == [
        "elsewhere"
    ]


def test_a_base_cell_differs_from_a_family_in_its_factors_alone() -> None:
    base = [run(f"cell_s{seed}", 0.1, seed, 0.5, tag="cell") for seed in (1, 2)]
    warmer = run("cell_s1", 0.3, 1, 0.9, started=9.0, tag="cell")  # by hand, under the same name, later
    family = [run("out", 0.1, 1, 0.4, data={"without": [], "tier": "mini"})]
    factors = ["data.without", "seed"]
    table = cells(family, "t", factors, "mini")
    found = base_cells([*base, warmer, *family], table, factors, "mini")
    assert found["name"].tolist() == ["cell_s1", "cell_s2"] and (found["final/mean"] == 0.5).all()
    with pytest.raises(DataError, match=r"run `commonspace train -m experiment=mini/cell seed=1,2,3` first"):
        base_cells([warmer, *family], table, factors, "mini")


def test_contrasts_are_paired_tests_adjusted_by_holm(table: pd.DataFrame) -> None:
    found = contrasts(table, "stage.temperature", 0.1, ["seed"])
    assert [one.level for one in found] == ["0.2", "0.4"]
    values = {t: part.sort_values("seed")["final/mean"].to_numpy() for t, part in table.groupby("stage.temperature")}
    tests = [ttest_rel(values[t], values[0.1]) for t in (0.2, 0.4)]
    for one, test, adjusted in zip(found, tests, holm([float(test.pvalue) for test in tests]), strict=True):
        interval = test.confidence_interval(0.95)
        assert (one.p, one.p_holm) == (pytest.approx(test.pvalue), pytest.approx(adjusted)) and one.pairs == 3
        assert (one.low, one.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_a_missing_cell_costs_its_pair_alone_and_one_pair_has_no_interval(table: pd.DataFrame) -> None:
    part = table[~((table["stage.temperature"] == 0.2) & (table["seed"] != 1))]
    one, whole = contrasts(part, "stage.temperature", 0.1, ["seed"])
    assert (one.pairs, one.p, one.p_holm) == (1, None, None) and one.low == one.high == one.value
    assert whole.pairs == 3 and whole.p_holm == whole.p


def test_what_cannot_be_compared_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="two cells agree in stage.temperature, final/a|two cells agree"):
        contrasts(pd.concat([table, table]), "stage.temperature", 0.1, ["seed"])
    with pytest.raises(DataError, match="no cell at the reference 0.3"):
        contrasts(table, "stage.temperature", 0.3, ["seed"])
