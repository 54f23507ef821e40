"""Rows go where they belong, and no evaluation takes away rows that it does not make anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.configuration import compose
from commonspace.errors import ConfigError
from commonspace.evaluation import run, surroundings
from commonspace.evaluation.baselines import MODEL_OF_FUSION
from commonspace.evaluation.places import TIERS, check_tasks_kept, models_of
from commonspace.evaluation.results import read_rows
from tests.evaluation.made import make_tier


@pytest.mark.parametrize(
    "root, words, folder",
    [
        ("evaluate", [], "docs/results/mini"),
        ("evaluate", ["data.tasks=[speech]"], "docs/results/mini"),
        ("evaluate", ["data.tier=tiny"], "docs/results/tiny"),
        ("evaluate", ["data.split=dev"], "runs/mini/evaluation"),
        ("evaluate", ["data.limit=8"], "runs/mini/evaluation"),
        ("evaluate", ["data.tier=own"], "runs/own/evaluation"),
        ("evaluate", ["data.tier=own", "output=here"], "here"),
        ("evaluate", ["experiment=mini/evaluate"], "docs/results/mini"),
        ("evaluate", ["experiment=mini/evaluate", "data.split=dev"], "runs/mini/evaluation"),
        ("evaluate", ["experiment=tiny/evaluate"], "docs/results/tiny"),
        ("evaluate", ["experiment=tiny/baselines"], "docs/results/tiny"),
        ("evaluate_pages", [], "docs/results/mini"),
        ("evaluate_pages", ["experiment=mini/pages", "data.split=dev"], "runs/mini/evaluation"),
        ("evaluate_speech", [], "docs/results/mini"),
        ("evaluate_speech", ["experiment=mini/speech", "data.split=dev"], "runs/mini/evaluation"),
        ("evaluate_long", [], "docs/results/mini"),
        ("evaluate_long", ["data.split=dev", "paths.runs='/a,b'"], "/a,b/mini/evaluation"),
    ],
)
def test_published_rows_are_held_out_and_whole(root: str, words: list[str], folder: str) -> None:
    given = [] if any(word.startswith("experiment") for word in words) else ["embedder=models/x"]
    assert compose(root, [*given, *words]).output == folder


def test_the_tiers_are_those_that_are_built() -> None:
    assert f"# {' | '.join(TIERS)}" in (Path(__file__).parents[2] / "configs/data_build.yaml").read_text()


def test_rows_of_other_tasks_are_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings.near_duplicates, "mark", lambda *places, **options: {})
    monkeypatch.setattr(run.report, "write", lambda *places: tmp_path)

    def evaluate(*words: str) -> set[str]:
        places = [f"paths.data={tmp_path}", f"output={tmp_path}/out", "bootstrap=20", "model.vision=null"]
        run.main(compose("evaluate", ["embedder=chance", *places, *words]))
        return {row.task for row in read_rows(tmp_path / "out/chance.jsonl")}

    make_tier(tmp_path / "mini")
    one = {"stamp_language"}
    assert evaluate("data.tasks=[stamp_language]") == one == evaluate("data.tasks=[stamp_language]")
    assert evaluate() > one, "all tasks replace some"
    with pytest.raises(ConfigError, match=r"chance.jsonl has rows of image_caption, video too, which would be lost"):
        evaluate("data.tasks=[stamp_language]")
    check_tasks_kept(tmp_path / "out", ["another"], ["stamp_language"])


def test_whose_rows_are_replaced() -> None:
    assert models_of("models/mini/soup") == ("soup",) and models_of("models/mini/soup", "x") == ("x",)
    assert models_of("e5") == ("e5",)
    assert set(models_of("late_fusion")) == set(MODEL_OF_FUSION.values())
    assert set(models_of("baselines")) == {*run.BASELINES, *MODEL_OF_FUSION.values()}
