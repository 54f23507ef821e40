from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from commonspace.errors import ConfigError
from commonspace.tracking.reader import Run
from commonspace.tracking.runs import lookup, main, matches

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
