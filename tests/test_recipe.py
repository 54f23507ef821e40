from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from commonspace.configuration import compose
from commonspace.errors import ConfigError, DataError
from commonspace.recipe import Recipe, Step, read_steps
from commonspace.recipe_view import StepTable, duration, headline, print_closing

PAIRS = '{"query": "a red fox", "positive": "un renard roux"}\n{"query": "a grey wolf", "positive": "un loup gris"}\n'


class Recorder(StepTable):
    """The table, and beside it what happened to which step."""

    def __init__(self) -> None:
        super().__init__(["build", "pack", "unpack"])
        self.events: list[str] = []

    def skipped(self, name: str, seconds: float, peak_bytes: int) -> None:
        self.events.append(f"{name} skipped")

    def finished(self, name: str, seconds: float, peak_bytes: int) -> None:
        assert seconds > 0 and peak_bytes > 1e6
        self.events.append(f"{name} done")


def three_steps(folder: Path) -> Recipe:
    """Real commands: own pairs to shards, shards to a tar, the tar unpacked elsewhere."""
    paths = {"data": f"{folder}/data", "runs": f"{folder}/runs"}
    steps = {
        "unpack": {
            "run": f"data unpack {folder}/own.tar paths.data={folder}/elsewhere",
            "outputs": [f"exists:{folder}/elsewhere"],
        },
        "pack": {
            "run": f"data pack data.tier=own output={folder}/own.tar",
            "after": ["build"],
            "outputs": [f"{folder}/own.tar"],
        },
        "build": {
            "run": f"data build own {folder}/pairs.jsonl",
            "inputs": [f"{folder}/pairs.jsonl"],
            "outputs": [f"{folder}/data/own/*/*.json", f"{folder}/data/own/*/*.tar"],
        },
    }
    return Recipe(read_steps(steps, paths), folder / "recipe")


def run(recipe: Recipe, **options) -> list[str]:
    table = Recorder()
    recipe.run(recipe.chosen(), table, **options)
    return table.events


def test_order_follows_what_configs_name(tmp_path: Path) -> None:
    recipe = three_steps(tmp_path)
    assert recipe.order == ["build", "pack", "unpack"]
    assert recipe.before["unpack"] == ["pack"], "its archive is what pack makes"
    assert [step.name for step in recipe.chosen(["pack"])] == ["build", "pack"]


@pytest.mark.slow
def test_steps_run_once_and_again_when_their_input_changes(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(PAIRS)
    everything = ["build done", "pack done", "unpack done"]
    assert run(three_steps(tmp_path)) == everything
    assert run(three_steps(tmp_path)) == ["build skipped", "pack skipped", "unpack skipped"]

    os.utime(pairs)  # a newer date is no change
    assert run(three_steps(tmp_path))[0] == "build skipped"

    pairs.write_text(PAIRS + '{"query": "a brown bear", "positive": "un ours brun"}\n')
    assert run(three_steps(tmp_path)) == everything

    (tmp_path / "own.tar").unlink()  # a lost output is made again; what comes after sees the same bytes or new ones
    assert run(three_steps(tmp_path))[:2] == ["build skipped", "pack done"]

    assert run(three_steps(tmp_path), again=["pack"])[1] == "pack done"


@pytest.mark.slow
def test_a_failed_step_shows_its_log_and_the_next_call_goes_on(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(PAIRS + "no json\n")
    with pytest.raises(DataError, match=r"step build failed with exit status 1(.|\n)*line 3"):
        run(three_steps(tmp_path))
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    assert run(three_steps(tmp_path)) == ["build done", "pack done", "unpack done"]


@pytest.mark.slow
def test_an_output_that_does_not_appear_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    step = Step(
        "build",
        ("data", "build", "own", f"{tmp_path}/pairs.jsonl", f"paths.data={tmp_path}/data"),
        outputs=("no/where",),
    )
    recipe = Recipe([step], tmp_path / "recipe")
    with pytest.raises(DataError, match="ended well but left no no/where"):
        recipe.run(recipe.chosen(), Recorder())


@pytest.mark.slow
def test_an_interrupted_call_stops_its_child_and_the_next_goes_on(tmp_path: Path) -> None:
    """The whole command, stopped in its second step; the first is not done again."""
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    steps = {
        "fetch": "null", "build": "null", "data_report": "null", "features": "null", "baselines": "null",
        "align": "null", "pretrain": "null", "mine": "null", "soup": "null",
        **{f"finetune_{name}": "null" for name in ("base", "cold", "media", "lora")},
        **{f"evaluate_{name}": "null" for name in ("pretrain", "soup_uniform", "soup")},
    }  # fmt: skip
    first = (
        f"{{run: 'data build own pairs.jsonl', inputs: [pairs.jsonl], outputs: ['{tmp_path}/data/own/manifest.json']}}"
    )
    second = "{run: 'data pack data.tier=own output=own.tar', after: [first], outputs: ['own.tar']}"
    command = [
        sys.executable, "-m", "commonspace.cli", "recipe", "tiny", f"paths.data={tmp_path}/data",
        f"paths.runs={tmp_path}/runs", f"+recipe.steps.first={first}", f"+recipe.steps.second={second}",
        *(f"recipe.steps.{name}={value}" for name, value in steps.items()),
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith("recipe: second running"):
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
    assert process.wait(300) != 0, "".join(seen)
    assert not [p.pid for p in psutil.process_iter() if str(tmp_path) in " ".join(_words(p))], "a child was left behind"
    assert "recipe: first done" in "".join(seen)
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "recipe: first unchanged" in again.stdout and "recipe: second done" in again.stdout


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize(
    "steps, message",
    [
        ({"a": {"run": "runs"}}, "no command of a recipe"),
        ({"a": {"words": "train"}}, "recipe.steps.a: takes"),
        ({"a": {"run": "data report", "after": ["b"]}}, "no step 'b'"),
        ({"a": {"run": "train stage.temperature=0"}}, "stage.temperature"),
        (
            {"a": {"run": "data report", "after": ["b"]}, "b": {"run": "data build", "after": ["a"]}},
            "a, b wait for one another",
        ),
    ],
)
def test_recipes_that_make_no_sense(steps: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe(read_steps(steps, {}), tmp_path)


def test_a_step_that_is_null_is_left_out() -> None:
    assert [step.name for step in read_steps({"a": None, "b": {"run": "data build"}}, {})] == ["b"]


def test_a_broken_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(DataError, match="state.json: not JSON"):
        Recipe([], tmp_path)


def write_rows(folder: Path, model: str, values: dict[str, float], **changes) -> None:
    rows = [
        {
            "suite": "heldout", "task": "speech", "direction": "audio->text", "split": "heldout", "subset": subset,
            "language": "all", "source": "all", "metric": "MRR@10", "value": value, "ci95": [value - 0.1, value + 0.1],
            "queries": 40, "pool": 80, "dim": 384, "model": model, **changes,
        }
        for subset, value in values.items()
    ]  # fmt: skip
    with (folder / f"{model}.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_the_headline_takes_full_size_without_near_duplicates(tmp_path: Path) -> None:
    from rich.console import Console

    results = tmp_path / "docs/results/tiny"
    results.mkdir(parents=True)
    assert headline(results) is None
    write_rows(results, "soup", {"all": 0.9, "no_near_duplicates": 0.75})
    write_rows(results, "soup", {"all": 0.1, "no_near_duplicates": 0.2}, dim=64)
    write_rows(results, "soup", {"all": 0.3, "no_near_duplicates": 0.3}, language="fr")
    write_rows(results, "soup", {"all": 0.4, "no_near_duplicates": 0.4}, metric="R@1")
    write_rows(results, "chance", {"all": 0.05}, dim=None, ci95=None)
    (results / "report.html").write_text("x")
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    print_closing("tiny", {k: tmp_path / k for k in ("docs", "models", "runs")}, console)
    text = console.export_text()
    assert "0.750 ±0.100" in text and "0.050*" in text and "report.html" in text
    assert not any(value in text for value in ("0.900", "0.200", "0.300", "0.400"))
    assert text.index("chance") < text.index("soup")


@pytest.mark.parametrize("tier, page", [("mini", "docs/data.md"), ("tiny", "runs/tiny/docs/data-tiny.md")])
def test_the_closing_names_the_data_page_that_the_recipe_made(tier: str, page: str, tmp_path: Path) -> None:
    from rich.console import Console

    for made in ("docs/data.md", "runs/tiny/docs/data-tiny.md"):
        (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / made).write_text("x")
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    print_closing(tier, {k: tmp_path / k for k in ("docs", "models", "runs")}, console)
    (line,) = (line for line in console.export_text().splitlines() if line.split()[0] == "data")
    assert line.split()[1] == str(tmp_path / page)
    report = compose("recipe", [f"recipe={tier}"]).recipe.steps.data_report
    assert page in list(report.outputs)


def test_a_broken_row_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "soup.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"soup.jsonl: not JSON lines"):
        headline(tmp_path)


def test_durations() -> None:
    assert [duration(s) for s in (0.4, 61, 3723)] == ["0:00", "1:01", "1:02:03"]
