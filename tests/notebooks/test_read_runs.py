"""The notebooks run from top to bottom on real runs, and are stored without what they showed."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from commonspace.config_values import resolved
from commonspace.configuration import compose
from commonspace.errors import ConfigError
from commonspace.evaluation.comparison import Compared, write_comparisons
from commonspace.evaluation.intervals import Difference
from commonspace.evaluation.results import Row, read_all, write_rows
from commonspace.evaluation.tables import Rows, figure
from commonspace.tracking import reader
from commonspace.tracking.identity import run_identity
from commonspace.tracking.logger import make_loggers
from commonspace.tracking.reader import Run
from tests.notebooks.running import FOLDER, run


def write_run(folder: Path, *overrides: str, steps: int = 8, speed: float = 1.0) -> None:
    """One offline run, by the loggers of training, under the names that the stages log."""
    config = compose("train", [*overrides, f"paths.runs={folder}"])
    kept = [key for key in config if key != "hydra"]
    plain = resolved(config, kept)
    place = folder / plain["name"]
    loggers = make_loggers(place, plain, run_identity(place, plain), arithmetic={"steps": steps})
    for step in range(steps):
        loss = 5 / (1 + speed * step)
        values = {"train/loss": loss, "train/temperature": 0.02, "train/gradient_norm": 1 + 1 / (step + 1)}
        values |= {f"train/loss/{task}": loss for task in plain["data"]["tasks"]}
        values |= {"train/tokens_per_second": 2000.0 + step, "train/wait_share": 0.1}
        if step % 4 == 3:
            values |= {"dev/image_caption image->text": 1 - loss / 5, "dev/mean": 1 - loss / 5}
            values |= {"dev/image_caption image->text gap": 0.5 * loss}
        for logger in loggers:
            logger.log_metrics(values, step)
    for logger in loggers:
        logger.log_metrics({"final/mean": 1 - loss / 5}, steps)
        logger.save()
        logger.finalize("success")
        if hasattr(logger.experiment, "finish"):
            logger.experiment.finish()


def row(model: str, value: float, **changes: object) -> Row:
    """One result row, as evaluation writes it."""
    values = {
        "suite": "heldout", "task": "speech_languages", "direction": "speech->text", "split": "heldout",
        "language": "all", "subset": "no_near_duplicates", "source": "all", "metric": "MRR@10", "value": value,
        "ci95": (0.1, 0.9), "queries": 40, "pool": 80.0, "dim": 384, "precision": "float32", "prefix_policy": "query",
        "model": model, "stage": "soup", "seed": None, **changes,
    }  # fmt: skip
    return Row(**{field.name: values.get(field.name) for field in fields(Row)})


def write_results(folder: Path) -> None:
    """A baseline of two seeds, a stage and a soup, each with rows that a headline must not take for its own."""
    every = {"subset": "all"}
    rows = {
        "late_fusion": [row("late_fusion", 0.4, dim=None, stage="baseline")]
        + [row("late_fusion", 0.31 + seed, dim=None, stage="baseline", seed=seed) for seed in (1, 2)],
        "pretrain": [row("pretrain", 0.2, stage="pretrain")],
        "soup": [
            row("soup", 0.5),
            row("soup", 0.77, language="fr"),
            row("soup", 0.66, dim=64),
            row("soup", 0.88, source="asterisk-fr"),
            *(row("soup", 0.6, language=code, **every) for code in ("fr", "ru")),
            *(row("soup", dim / 500, dim=dim, metric="NDCG@10", **every) for dim in (64, 384)),
        ],
    }
    for model, some in rows.items():
        write_rows(folder, model, some)
    gap = Difference(0.1, 0.05, 0.15, 0.01, 0.04, 80, 40)
    compared = [
        Compared("speech", "both", metric, "no_near_duplicates", "soup", "late_fusion", 0.5, 0.4, gap, 0.02)
        for metric in ("MRR@10", "R@1")
    ]
    write_comparisons(folder, compared)


def executed(folder: Path) -> tuple[int, str]:
    """How many pictures the notebook shows in all, and its tables."""
    notebook = nbformat.read(FOLDER / "read_runs.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    return len(pictures), "\n".join(o["data"]["text/html"] for o in outputs if "text/html" in o.get("data", {}))


@pytest.mark.slow
def test_read_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "runs", "experiment=tiny/pretrain")
    write_run(tmp_path / "runs", "experiment=tiny/finetune_base", speed=2.0)
    write_run(tmp_path / "runs", "experiment=tiny/finetune_cold", speed=1.5)
    (tmp_path / "results/tiny").mkdir(parents=True)
    write_results(tmp_path / "results/tiny")
    monkeypatch.setenv("COMMONSPACE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COMMONSPACE_RESULTS", str(tmp_path / "results"))
    pictures, tables = executed(tmp_path)
    runs, reports = 1 + 1 + 2 + 1, 1 + 1 + 1 + 1 + 1
    assert pictures == runs + reports, "loss, dev, health and ablations of all runs; then one of each plot of results"
    for shown in ("pretrain", "finetune_base", "finetune_cold", "finished", "temperature"):
        assert shown in tables
    heldout = tables[tables.index("late_fusion") :]
    assert all(f"<td>{value} [.10, .90]</td>" in heldout for value in ("0.400", "0.200", "0.500"))
    assert not re.search(r"0\.77|0\.66|0\.88|1\.31|2\.31", heldout), (
        "a language, a size, a source or a seed as headline"
    )


def sweep() -> list[Run]:
    """Sixty cells of a temperature ablation, and two runs beside them."""
    found = []
    for place in range(62):
        temperature, seed = (0.001 * (1 + place % 20), place // 20) if place < 60 else (0.5, 1)
        steps = pd.DataFrame({"trainer/global_step": [0, 1, 2], "train/loss/speech": [3.0, 2.0, 1.0]})
        steps = steps.assign(**{"dev/mean": [None, 0.1, 0.2], "dev/speech speech->text gap": 0.3, "final/mean": 0.2})
        steps = steps.assign(**{"train/temperature": temperature, "dev/examples/size": 9.0})
        tags = ("ablation", "temperature") if place < 60 else ("other",)
        config = {"stage": {"temperature": temperature}, "seed": seed}
        found.append(Run(f"id{place}", f"run{place}", "p", "sweep", tags, config, {}, steps, 0.0, "finished"))
    return found


def test_a_sweep_is_filtered_and_drawn_in_a_few_pictures_with_a_dozen_colours(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reader, "read_runs", lambda folder: sweep())
    where = "tags=temperature stage.temperature<0.0195"
    shown = run(
        "read_runs.ipynb", monkeypatch, runs=tmp_path, results=tmp_path / "none", filter=where,
        factor="stage.temperature",
    )  # fmt: skip
    assert shown.figures == [
        ["speech"], ["mean"], ["temperature"], ["modality gap, mean over tasks"], ["MRR@10 on dev"],
    ]  # fmt: skip
    assert all(len(legend) == 12 and legend[-1] == "8 others" for legend in shown.legends) and len(shown.legends) == 5
    kept = [float(text) for text in shown.legends[0][:-1]]
    assert kept == sorted(kept) and max(kept) < 0.0195
    assert len(shown.names["runs"]) == 57 and len(shown.tables[0]) == 57, "neither the warmest nor other runs"


def test_without_a_factor_few_runs_are_told_apart_by_name_and_many_by_group(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(reader, "read_runs", lambda folder: sweep())
    places = {"runs": tmp_path, "results": tmp_path / "none"}
    shown = run("read_runs.ipynb", monkeypatch, **places, filter="seed=2 stage.temperature<0.0025")
    assert shown.legends == [["run40", "run41"]] * 5
    assert run("read_runs.ipynb", monkeypatch, **places, filter="").legends == [["sweep"]] * 5
    with pytest.raises(ConfigError, match="write it as stage.name=pretrain"):
        run("read_runs.ipynb", monkeypatch, **places, filter="temperature")


@pytest.mark.slow
def test_read_runs_on_the_committed_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh checkout: figures of the mini tier and not one run."""
    monkeypatch.setenv("COMMONSPACE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COMMONSPACE_RESULTS", str(FOLDER.parent / "docs/results"))
    pictures, tables = executed(tmp_path)
    assert pictures >= 7, "tasks, differences, sizes, three of languages, stages"
    headline = Rows.of(read_all(FOLDER.parent / "docs/results/mini")).headline("MRR@10", "no_near_duplicates")
    assert all(f"<td>{figure(one)}</td>" in tables for cell in headline.values() for one in cell.values())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_sound_and_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    text = json.dumps([cell.source for cell in notebook.cells])
    assert "/home/" not in text and "/root/" not in text


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_every_notebook_is_executed_by_a_test(path: Path) -> None:
    assert any(path.name in test.read_text() for test in Path(__file__).parent.glob("test_*.py"))
