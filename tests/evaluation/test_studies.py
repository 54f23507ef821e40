"""Families of cells read from the folders of their runs: levels, pairs, what is told apart, the page and its plot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wandb
from omegaconf import OmegaConf

from commonspace.cli import main as cli
from commonspace.configuration import compose, config_folder
from commonspace.errors import DataError
from commonspace.evaluation.kept_scores import write_scores
from commonspace.evaluation.studies.compare import Study, paired, study
from commonspace.evaluation.studies.family import Cell, read_cells, read_family
from commonspace.evaluation.studies.page import page, reading, surface_of
from commonspace.evaluation.studies.plot import draw
from commonspace.tracking.reader import read_runs

TASKS = (("speech", "audio->text"), ("speech", "text->audio"), ("document", "text->document"))


def queries(level: float, seed: int, hard: str = "") -> pd.DataFrame:
    """40 queries a direction around a level; `hard` names a task that is at zero."""
    noise = np.random.default_rng(seed)
    rows = [
        (task, way, f"{task}{number}", f"c{number % 20}", 0.0 if task == hard else level + noise.normal(0, 0.02))
        for task, way in TASKS
        for number in range(40)
    ]
    return pd.DataFrame(rows, columns=["task", "direction", "query", "concept", "reciprocal_rank"])


def write_cell(
    runs: Path, name: str, table: pd.DataFrame, tags: list[str], *options: str, started: float = 1.0
) -> None:
    """A run's folder as training leaves it."""
    folder = runs / "mini" / name / f"id{started:g}"
    folder.mkdir(parents=True)
    config = compose("train", ["experiment=mini/cell", f"name={name}", f"tags=[{','.join(tags)}]", *options])
    plain = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    OmegaConf.save(OmegaConf.create(OmegaConf.to_container(plain, resolve=True)), folder / "config.yaml")
    schedule = [{"task": "speech", "steps": 100}, {"task": "document", "steps": 50}]
    start = {"time": started, "run": {"code": {"commit": "abcdef0123456789", "dirty": False}}}
    start["arithmetic"] = {"schedule": schedule}
    (folder / "starts.jsonl").write_text(json.dumps(start) + "\n")
    by_way = table.groupby(["task", "direction"])["reciprocal_rank"].mean()
    scores = {f"{task} {way}": float(value) for (task, way), value in by_way.items()}
    write_scores(folder, {**scores, "mean": float(by_way.groupby("task").mean().mean()), "speech gap": 0.3}, table)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two temperatures of three, the reference among them, and the base; two learning rates, two seeds."""
    folder = tmp_path / "runs"
    for rate in ("1.5e-5", "3.0e-5"):
        for seed in (1, 2):
            for number, (temperature, level) in enumerate((("0.01", 0.3), ("0.05", 0.5))):
                write_cell(
                    folder, f"t{temperature}{rate}{seed}", queries(level, 10 * seed + number),
                    ["ablation", "temperature"],
                    f"stage.temperature={temperature}", f"stage.learning_rate={rate}", f"seed={seed}",
                )  # fmt: skip
    for seed in (1, 2, 3):
        write_cell(folder, f"cell_s{seed}", queries(0.5, seed), ["ablation", "cell"], f"seed={seed}")
    return folder


def family(name: str):
    return read_family(config_folder() / "ablation" / f"{name}.yaml")


def read(runs: Path, name: str) -> Study:
    found = study(family(name), read_cells(runs / "mini"))
    assert found is not None
    return found


def test_a_family_is_what_its_config_sweeps() -> None:
    found = family("temperature")
    assert found.varied == ("stage.temperature", "stage.learning_rate")
    assert found.count == 30 and found.about.startswith("Headline: five fixed temperatures")
    assert family("leave_one_out_rest").varied == ("data.without",) and family("mixture").count == 24
    assert {"init", "model.text_hidden"} <= set(family("pooling").fixed)
    assert family("leave_one_out").says("data.tasks.speech.rate") and not family("temperature").says("data.tasks")
    assert family("stage_effect").says("init.bytes") and not family("stage_effect").says("rows.speech")


def test_levels_are_compared_with_the_reference_in_pairs(runs: Path) -> None:
    found = read(runs, "temperature")
    slow, low, other, reference = found.levels
    assert [level.label for level in found.levels] == [
        f"temperature {temperature}, learning rate {rate}" for temperature in (0.01, 0.05) for rate in (1.5e-05, 3e-05)
    ]
    assert found.reference == reference.label and reference.difference is None and slow.pairs == other.pairs == 2
    assert len(low.cells) == low.pairs == 2 and len(reference.cells) == 3, "the base of seed 3; others were there"
    assert found.found == 8 and found.expected == 30 and found.seeds == 2
    cells = {cell.name: cell for cell in read_cells(runs / "mini")}
    gaps = [cells[f"t0.013.0e-5{s}"].scores["mean"] - cells[f"t0.053.0e-5{s}"].scores["mean"] for s in (1, 2)]
    assert low.difference.value == pytest.approx(np.mean(gaps), abs=1e-9)
    assert low.difference.low < -0.19 and low.difference.high > -0.21 and low.p_holm < 0.05
    assert low.shares["audio"] == pytest.approx(2 / 3) and low.commits == ("abcdef012345",)
    assert "Over 120 dev queries of 20 concepts." in reading(found, "mini")
    assert Study.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_what_is_left_out_is_compared_with_the_base(runs: Path) -> None:
    for seed in (1, 2):
        options = ("data.without=[document]", f"seed={seed}")
        write_cell(runs, f"l{seed}", queries(0.5, seed, "document"), ["ablation", "leave_one_out"], *options)
    found = read(runs, "leave_one_out")
    one, base = found.levels
    assert (one.label, base.label, found.reference) == ("without document", "cell", "cell")
    assert one.pairs == 2 and one.difference.value == pytest.approx(-0.25, abs=0.02), "one of two tasks is lost"
    assert found.found == 2 and "13 of 15 cells have not ended" in reading(found, "mini")


def test_the_page_names_the_command_of_the_reference_where_it_is_none_of_the_familys_own(runs: Path) -> None:
    write_cell(runs, "left", queries(0.4, 1), ["ablation", "leave_one_out"], "data.without=[text]", "seed=1")
    told = page("mini", "", [read(runs, "leave_one_out"), read(runs, "temperature")])
    commands = [line.strip() for line in told.splitlines() if line.startswith("    commonspace launch")]
    assert [command.removeprefix("commonspace launch experiment=mini/cell ") for command in commands] == [
        "ablation=leave_one_out", "seed=1", "ablation=temperature",
    ]  # fmt: skip


def test_a_family_that_begins_elsewhere_compares_with_itself(runs: Path) -> None:
    for kind in ("mean", "input_and_last"):
        options = ("init=null", "model.head_init=random", "model.text_hidden=0", "stage.frozen_layers=0")
        write_cell(runs, f"p{kind}", queries(0.2, 1), ["ablation", "pooling"], f"model.pooling={kind}", *options)
    found = read(runs, "pooling")
    assert found.reference == "pooling input_and_last", "as the base has it, of cells that begin where these do"
    assert [(level.pairs, len(level.cells)) for level in found.levels] == [(0, 1), (1, 1)] and not found.odd
    assert "One seed: exploratory." in reading(found, "mini")


def test_a_family_of_its_own_length_compares_with_its_cells_that_leave_nothing_out(tmp_path: Path) -> None:
    """Also where no cell of the base is here."""
    for left_out, level in (("[audio]", 0.4), ("[]", 0.5), ("[text]", 0.3)):
        options = ["data.without_rest=true", "stage.steps=410", f"data.without={left_out}"]
        write_cell(tmp_path, f"rest_{left_out[1:-1]}", queries(level, 1), ["ablation", "leave_one_out_rest"], *options)
    found = read(tmp_path, "leave_one_out_rest")
    assert found.reference == "without nothing" == found.levels[0].label
    assert [level.difference is None for level in found.levels] == [True, False, False]


def test_a_family_that_changes_the_objective_beside_what_it_varies_compares_with_itself(runs: Path) -> None:
    for count in (1, 2):
        options = (f"data.sub_batches={count}", "objective.reverse=false")
        write_cell(runs, f"b{count}", queries(0.2, 1), ["ablation", "sub_batches"], *options)
    assert read(runs, "sub_batches").reference == "sub batches 1", "the base trains both ways"


def test_cells_that_differ_in_more_than_the_family_says_are_left_out_and_named(runs: Path) -> None:
    write_cell(runs, "long", queries(0.9, 1), ["ablation", "temperature"], "stage.temperature=0.2", "stage.steps=300")
    write_cell(runs, "cell_s4", queries(0.9, 1), ["ablation", "cell"], "stage.steps=300", "seed=4", started=0.5)
    write_cell(runs, "whole", queries(0.9, 1), ["ablation", "temperature"], "stage.dev_undrawn=false")
    found = read(runs, "temperature")
    assert found.odd == {"long": ["stage.steps"], "cell_s4": ["stage.steps"]} and found.found == 8
    assert "Left out, as they differ from the base in more than the family says: cell_s4 (stage.steps)" in reading(
        found, "mini"
    )


def test_a_family_on_other_queries_leaves_the_page_of_the_others(runs: Path, tmp_path: Path, capsys) -> None:
    write_cell(runs, "m", queries(0.5, 1).iloc[1:], ["ablation", "soundtrack"], "data.soundtrack=false", "seed=1")
    assert cli(["evaluate", "ablations", "data.tier=mini", f"paths.runs={runs}", f"output={tmp_path / 'out'}"]) == 0
    assert "soundtrack: two cells were scored on different dev queries" in " ".join(capsys.readouterr().out.split())
    assert "## temperature" in (tmp_path / "out/ablations.md").read_text()


def test_cells_that_began_from_another_model_are_no_base(runs: Path) -> None:
    """The pretrained model was trained anew between the base and the family."""
    for path in (runs / "mini").glob("cell_s*/*/starts.jsonl"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "init_fingerprint": "old"}) + "\n")
    for path in (runs / "mini").glob("t0.01*/*/starts.jsonl"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "init_fingerprint": "new"}) + "\n")
    found = read(runs, "temperature")
    assert {tuple(keys) for keys in found.odd.values()} == {("init.bytes",)} and len(found.odd) == 4
    assert found.began == () and "begun at" not in reading(found, "mini")


def test_a_family_of_which_no_cell_is_like_the_base_is_named(runs: Path, tmp_path: Path, capsys) -> None:
    for seed in (1, 2):
        options = ("data.without=[text]", "stage.steps=300", f"seed={seed}")
        write_cell(runs, f"l{seed}", queries(0.5, seed), ["ablation", "leave_one_out"], *options)
    assert cli(["evaluate", "ablations", "data.tier=mini", f"paths.runs={runs}", f"output={tmp_path / 'out'}"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "leave_one_out: all 2 cells that ended differ from" in told and "as l1 does in stage.steps" in told
    assert "## leave_one_out" not in (tmp_path / "out/ablations.md").read_text()


def test_a_study_says_at_which_model_its_cells_began(runs: Path) -> None:
    for path in (runs / "mini").glob("*/*/starts.jsonl"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "init_fingerprint": "0123456789ab"}) + "\n")
    found = read(runs, "temperature")
    assert reading(found, "mini").endswith("Code of abcdef012345, begun at model 01234567.")
    assert Study.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_without_a_base_nothing_is_told_apart(tmp_path: Path) -> None:
    write_cell(tmp_path, "m", queries(0.2, 1), ["ablation", "soundtrack"], "data.soundtrack=false")
    assert "No level met a reference cell" in reading(read(tmp_path, "soundtrack"), "mini")
    assert study(family("temperature"), read_cells(tmp_path / "mini")) is None


def test_pairs_weigh_tasks_alike_and_want_equal_queries() -> None:
    first, second = queries(0.5, 1), queries(0.5, 1)
    first.loc[first["task"] == "document", "reciprocal_rank"] += 0.2
    assert paired([(first, second)]).value == pytest.approx(0.1)
    with pytest.raises(DataError, match="other|different dev queries"):
        paired([(first, second.iloc[1:])])


def test_of_cells_that_ran_again_the_later_counts(runs: Path) -> None:
    write_cell(runs, "cell_s1", queries(0.9, 1), ["ablation", "cell"], started=2.0)
    (cell,) = (cell for cell in read_cells(runs / "mini") if cell.name == "cell_s1")
    assert isinstance(cell, Cell) and cell.scores["mean"] > 0.85


def test_the_command_writes_a_page_a_plot_and_what_a_clone_redraws(runs: Path, tmp_path: Path, capsys) -> None:
    output, words = tmp_path / "out", ["evaluate", "ablations", "data.tier=mini"]
    assert cli([*words, f"paths.runs={runs}", f"output={output}"]) == 0
    text = (output / "ablations.md").read_text()
    assert (
        "| temperature 0.05, learning rate 3e-05 | 3 |" in text
        and "Told apart from the reference (temperature 0.05, learning rate 3e-05): temperature 0.01" in text
    )
    plot = (output / "ablations/temperature.png").read_bytes()
    wandb.teardown()  # only then is a log on disk to its last record
    (logged,) = read_runs(runs / "mini/studies")
    assert (logged.group, logged.name, logged.config["reference"]) == (
        "ablation-temperature", "temperature", "temperature 0.05, learning rate 3e-05",
    )  # fmt: skip
    assert logged.summary["study/reading"].startswith("Told apart from the reference") and logged.state == "finished"
    (output / "ablations/temperature.md").write_text("Hotter is better.\n")
    assert cli([*words, f"paths.runs={tmp_path / 'none'}", f"output={output}"]) == 0
    assert (output / "ablations/temperature.png").read_bytes() == plot, "from what was kept alone"
    assert (output / "ablations.md").read_text().endswith("\n\n**Reading.** Hotter is better.\n")
    assert cli([*words, f"paths.runs={runs}", f"paths.docs={tmp_path / 'docs'}"]) == 0
    line = (
        "- **temperature** (8 of 30 cells; `commonspace launch experiment=mini/cell ablation=temperature`): Told apart"
    )
    assert line in (tmp_path / "docs/results.md").read_text()
    with pytest.raises(SystemExit):
        cli([*words, f"paths.runs={tmp_path / 'none'}", f"output={tmp_path / 'empty'}"])
    assert "no cell of an ablation has ended" in capsys.readouterr().err


def test_mixtures_have_their_surface_only_with_its_error(tmp_path: Path) -> None:
    from commonspace.evaluation.studies.compare import Level

    rng = np.random.default_rng(0)
    shares = rng.dirichlet([1, 1, 1], 12)
    levels = tuple(
        Level(f"dirichlet {n}", {f"m{n}": float(0.5 + a * b)}, ("c",), {"speech": 0.5},
              {"audio": a, "image": b, "text": c, "video": 0.0, "document": 0.0})
        for n, (a, b, c) in enumerate(shares)
    )  # fmt: skip
    found = Study("mixture", "Mixtures.", 1, 12, 24, levels, None)
    surface = surface_of(found)
    assert surface is not None and surface.explains and "chosen too, without it" in reading(found, "mini")
    assert len(draw(found).axes) == 2
    flat = Study("mixture", "Mixtures.", 1, 12, 24, tuple(_noise(level, n) for n, level in enumerate(levels)), None)
    assert "says nothing and is not drawn" in reading(flat, "mini") and len(draw(flat).axes) == 1
    assert "mixture" in page("mini", "x", [found])


def _noise(level, number: int):
    from dataclasses import replace

    return replace(level, cells={level.label: float((-1) ** number)})
