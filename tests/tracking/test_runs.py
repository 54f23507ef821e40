from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from commonspace.errors import ConfigError
from commonspace.tracking.reader import Run
from commonspace.tracking.runs import curves, differences, lookup, main, matches

RUN = Run(
    run_id="a1",
    name="finetune_base",
    project="commonspace",
    group="mini",
    tags=("ablation", "mixture"),
    config={"stage": {"temperature": 0.02, "learn_temperature": False}},
    summary={"final": 3},
    history=pd.DataFrame({"trainer/global_step": [0, 1, 2], "train/loss": [3.0, 2.0, None]}),
    started=0.0,
    state="finished",
)


@pytest.mark.parametrize(
    "condition, expected",
    [
        ("name=finetune_base", True),
        ("name!=finetune_base", False),
        ("tags=mixture", True),
        ("tags=temperature", False),
        ("stage.temperature<=0.02", True),
        ("stage.temperature>0.02", False),
        ("stage.learn_temperature=false", True),
        ("train/loss<2.5", True),
        ("train/loss>2.5", False),
        ("no.such=1", False),
    ],
)
def test_conditions(condition: str, expected: bool) -> None:
    assert matches(RUN, condition) is expected


def test_lookup_takes_the_last_known_value() -> None:
    assert lookup(RUN, "train/loss") == 2.0
    assert lookup(RUN, "final") == 3
    assert lookup(RUN, "absent") is None


@pytest.mark.parametrize("condition", ["name", "name<5", "train/loss<low"])
def test_senseless_conditions_are_refused(condition: str) -> None:
    with pytest.raises(ConfigError, match=condition):
        matches(RUN, condition)


@pytest.mark.slow
def test_listing(offline_run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offline_run(tmp_path / "a", ["name=alpha", "stage.temperature=0.01"])
    offline_run(tmp_path / "b", ["name=beta", "stage.temperature=0.05"])
    assert main([str(tmp_path), "stage.temperature>0.02", "--show", "stage.temperature", "train/loss", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    shown = json.loads(line)
    assert shown["name"] == "beta" and shown["steps"] == 5
    assert shown["stage.temperature"] == 0.05 and shown["train/loss"] == pytest.approx(1 / 6)
    assert main([str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "alpha" in table and "beta" in table


def other(**changes: object) -> Run:
    return replace(RUN, **changes)


def test_comparison_shows_what_differs_and_no_more() -> None:
    warm = other(
        run_id="b2", name="warm", config={"stage": {"temperature": 0.04, "learn_temperature": False}, "run": 1}
    )
    rows = differences([RUN, warm], ["train/loss"])
    assert rows == [
        {"key": "stage.temperature", "finetune_base": 0.02, "warm": 0.04},
        {"key": "train/loss", "finetune_base": 2.0, "warm": 2.0},
    ]
    again = differences([RUN, other(run_id="c3")], [])
    assert again == [], "two runs of one name and one config differ in nothing"
    assert list(differences([RUN, other(run_id="c3")], ["final"])[0]) == ["key", "a1", "c3"]


def test_curves_leave_out_what_was_not_logged() -> None:
    silent = other(history=pd.DataFrame({"trainer/global_step": [0]}))
    (curve,) = curves([RUN, silent], "train/loss")
    assert (curve.label, curve.xs, curve.ys) == ("finetune_base (a1)", [0, 1], [3.0, 2.0])


def test_a_lineage_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--lineage: .*nowhere is not there"):
        main(["--lineage", str(tmp_path / "nowhere")])
