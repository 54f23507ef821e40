"""The notebooks run from top to bottom on real runs, and are stored without what they showed."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from omegaconf import OmegaConf

from commonspace.configuration import compose
from commonspace.evaluation.results import Row, write_rows
from commonspace.tracking.identity import run_identity
from commonspace.tracking.logger import make_loggers

FOLDER = Path(__file__).parents[2] / "notebooks"


def write_run(folder: Path, *overrides: str, steps: int = 8, speed: float = 1.0) -> None:
    """One offline run, by the loggers of training, under the names that the stages log."""
    config = compose("train", [*overrides, f"paths.runs={folder}"])
    kept = [key for key in config if key != "hydra"]
    plain = OmegaConf.to_container(OmegaConf.masked_copy(config, kept), resolve=True)
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


def write_result(folder: Path, model: str, value: float) -> None:
    """One result row, as evaluation writes it."""
    values = {
        "suite": "heldout", "task": "speech", "direction": "audio->text", "split": "heldout", "language": "all",
        "subset": "no_near_duplicates", "source": "all", "metric": "MRR@10", "value": value, "ci95": (0.1, 0.9),
        "queries": 40, "pool": 80.0, "dim": 384, "precision": "float32", "prefix_policy": "query", "model": model,
        "stage": "soup", "seed": 1,
    }  # fmt: skip
    write_rows(folder, model, [Row(**{field.name: values.get(field.name) for field in fields(Row)})])


@pytest.mark.slow
def test_read_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "runs", "experiment=tiny/pretrain")
    write_run(tmp_path / "runs", "experiment=tiny/finetune_base", speed=2.0)
    write_run(tmp_path / "runs", "experiment=tiny/finetune_warm", speed=1.5)
    (tmp_path / "results/tiny").mkdir(parents=True)
    write_result(tmp_path / "results/tiny", "chance", 0.05)
    write_result(tmp_path / "results/tiny", "soup", 0.5)
    monkeypatch.setenv("COMMONSPACE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COMMONSPACE_RESULTS", str(tmp_path / "results"))
    notebook = nbformat.read(FOLDER / "read_runs.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    tables = "\n".join(output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {}))
    assert len(pictures) == 3 + 3 + 1 + 1 + 1, "loss and dev for each run, health, ablations, held-out"
    for shown in ("pretrain", "finetune_base", "finetune_warm", "finished", "temperature", "<td>0.5</td>"):
        assert shown in tables


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
    assert path.name in Path(__file__).read_text()
