"""`commonspace train` end to end on a small model: what it logs, how it goes on, what it leaves behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commonspace.errors import ConfigError, DataError
from commonspace.models.embedder import Embedder
from commonspace.models.folder import check_golden
from commonspace.stages.train import chosen_tasks, task_modalities, train
from commonspace.tracking.reader import read_runs
from tests.stages.training import MODEL, settings, start_model, write_pairs

ROOT = Path(__file__).parents[2]
STEPS = 8
# Two tasks of small batches; a checkpoint every two steps, dev every four.
RUN = [
    "data=pretrain", "data.tier=made", "data.workers=0", "stage.token_budget=null", f"stage.steps={STEPS}",
    "data.tasks.image_caption.batch_size=8", "data.tasks.summary={batch_size: 8, rate: 2.0}",
    *(f"data.tasks.{name}.rate=0" for name in ("stamp_language", "emoji_language", "crosslingual", "recipe", "code")),
    "stage.temperature=0.1", "stage.dev_every=0.5", "callbacks.checkpoint_every=0.25", "name=first",
]  # fmt: skip


def overrides(folder: Path, *more: str) -> list[str]:
    return [*RUN, *MODEL, f"init={folder / 'start'}", *more]


def logged(folder: Path) -> list[dict[str, str]]:
    """Rows of every metrics.csv below a folder, of whichever order the restarts wrote them."""
    files = sorted(folder.rglob("metrics.csv"))
    assert files, f"{folder}: no metrics.csv"
    return [row for file in files for row in csv.DictReader(file.open())]


def values(rows: list[dict[str, str]], key: str) -> list[float]:
    return [float(row[key]) for row in rows if row.get(key)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "data/made")
    start_model(tmp_path / "start")
    return tmp_path


def test_everything_a_run_is_judged_by_is_logged(place: Path) -> None:
    train(settings(place, *overrides(place)))
    rows = logged(place / "runs")
    keys = {key for row in rows for key, value in row.items() if value}
    per_task = {f"train/{what}/{task}" for what in ("loss", "gradient_norm") for task in ("image_caption", "summary")}
    assert per_task <= keys
    assert {"train/temperature", "train/gradient_norm", "train/learning_rate", "train/loss"} <= keys
    assert {"train/tokens_per_second", "train/samples_per_second"} <= keys
    assert {"train/wait_seconds", "train/wait_share", "train/skipped"} <= keys
    assert {"dev/mean", "dev/image_caption image->text", "dev/image_caption text->image"} <= keys
    assert {"dev/image_caption image->text gap", "dev/summary text->text"} <= keys
    by_task = [values(rows, f"train/loss/{task}") for task in ("image_caption", "summary")]
    assert sum(map(len, by_task)) == len(values(rows, "train/loss")) == STEPS, "a step logs its own task alone"
    assert len(values(rows, "dev/mean")) == 2
    (run,) = read_runs(place / "runs")
    assert keys - {"step", "epoch"} <= set(run.history), "the W&B log tells what the CSV tells"


def test_waiting_is_for_data_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring dev takes long here; it must neither count as waiting nor slow the samples of a second down."""
    import time

    from commonspace.stages.dev import DevRetrieval

    scores = DevRetrieval.scores
    monkeypatch.setattr(DevRetrieval, "scores", lambda *given, **more: time.sleep(0.8) or scores(*given, **more))
    train(settings(place, *overrides(place, "stage.dev_every=0.5", "logger=csv")))
    rows = logged(place / "runs")
    waits = values(rows, "train/wait_seconds")
    assert len(waits) == STEPS and 0 < max(waits) < 0.5
    share = [wait / (8 / speed) for wait, speed in zip(waits, values(rows, "train/samples_per_second"), strict=True)]
    assert values(rows, "train/wait_share") == pytest.approx(share, rel=1e-3)


def test_waiting_for_slow_data_is_seen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from commonspace.data.loader import MixtureDataset

    batch = MixtureDataset.batch
    monkeypatch.setattr(MixtureDataset, "batch", lambda *given: time.sleep(0.3) or batch(*given))
    train(settings(place, *overrides(place, "stage.dev_every=0.0", "logger=csv")))
    assert min(values(logged(place / "runs"), "train/wait_seconds")) >= 0.3


def test_skipped_samples_are_logged_and_told_at_the_end(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "data/bad", broken=(3, 4))
    only = ["data.tier=bad", "data.tasks.summary.rate=0", "logger=csv", "stage.steps=6", "stage.dev_every=0.0"]
    train(settings(place, *overrides(place, *only)))
    skipped = int(sum(values(logged(place / "runs"), "train/skipped")))
    assert skipped >= 2, "48 rows in batches of 8: six steps see each row once"
    said = " ".join(capsys.readouterr().out.split())
    assert f"{skipped} samples skipped (image_caption {skipped})" in said


KILLED = """
import os, signal, sys
from commonspace.cli import main
from commonspace.stages.contrastive import ContrastiveStage

def die(stage, *_):
    if stage.trainer.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

ContrastiveStage.on_train_batch_end = die
main(["train", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_its_soup_loads(place: Path) -> None:
    """Train, kill without warning, resume under the same id to the weights of a run nobody killed, average two."""
    from commonspace.stages.soup import soup

    config = settings(place, *overrides(place))
    folders = [f"paths.{name}={place / name}" for name in ("data", "cache", "runs", "models", "docs")]
    command = [sys.executable, "-c", KILLED, *overrides(place), *folders]
    own_service = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    died = subprocess.run(command, cwd=ROOT, env=own_service, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    (identity,) = (place / "runs/made/first").glob("identity-*.json")
    run_id = json.loads(identity.read_text())["run_id"]
    assert not (place / "models/made/first").exists()

    train(config)
    model = place / "models/made/first"
    assert json.loads((model / "training.json").read_text())["run_id"] == run_id
    (run,) = read_runs(place / "runs")
    assert run.run_id == run_id and run.state == "finished"
    steps = [int(row["step"]) for row in logged(place / "runs") if row.get("train/loss")]
    assert sorted(steps) == [0, 1, 2, 3, 4, 4, 5, 6, 7], "on from the checkpoint after four steps; the fifth was lost"

    train(settings(place, *overrides(place, f"paths.runs={place / 'others'}", f"output={place / 'whole'}")))
    resumed, whole = (load_file(folder / "model.safetensors") for folder in (model, place / "whole"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)

    train(settings(place, *overrides(place, "name=second", "seed=2")))
    both = f"ingredients=[{model},{place / 'models/made/second'}]"
    score = soup(settings(place, both, "data.tier=made", "data.features=false", root="soup"))
    for name in ("soup", "soup_uniform"):
        folder = place / f"models/made/{name}"
        check_golden(Embedder.load(folder), folder)
    recipe = json.loads((place / "models/made/soup/soup.json").read_text())
    assert recipe["dev"]["mean"] == pytest.approx(score) and recipe["kind"] == "greedy"


@pytest.mark.slow
def test_a_handful_of_pairs_is_learnt_by_heart(place: Path) -> None:
    """debug=overfit takes the first task alone, in batches no larger than its few pairs, and its loss goes to zero."""
    fast = "stage.learning_rate=3.0e-3 stage.new_learning_rate=3.0e-3 stage.layer_decay=1.0 stage.temperature=0.02"
    large = ["data.tasks.image_caption.batch_size=512", "stage.steps=60", "logger=csv"]
    train(settings(place, *overrides(place, "debug=overfit", *fast.split(), *large)))
    rows = logged(place / "runs")
    assert not values(rows, "train/loss/summary") and len(values(rows, "train/loss/image_caption")) == 60
    losses = values(rows, "train/loss")
    assert losses[0] > 5 and losses[-1] < 0.01


def test_few_pairs_make_small_batches_and_say_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = ["data.tasks.summary.rate=0", "data.tasks.image_caption.batch_size=64", "logger=csv", "stage.steps=1"]
    with pytest.raises(ConfigError, match="image_caption: has 48 records, too few for one batch of 64"):
        train(settings(place, *overrides(place, *only)))
    train(settings(place, *overrides(place, *only, "data.shrink=true")))
    said = " ".join(capsys.readouterr().out.split())
    assert "task image_caption: 48 records to train on, so batches of 48 where 64 were asked for" in said
    with pytest.raises(DataError, match="image_caption: 1 record to train on"):
        train(settings(place, *overrides(place, *only, "data.shrink=true", "data.limit=1")))


def test_the_first_task_alone() -> None:
    task = {"direction": "image+text -> text", "batch_size": 4}
    tasks = {"off": {**task, "rate": 0}, "one": {**task, "rate": 2.0}, "two": {**task, "rate": 1.0}}
    assert chosen_tasks({"tasks": tasks, "first_only": False}) == tasks
    alone = chosen_tasks({"tasks": tasks, "first_only": True})
    assert {name: entry["rate"] for name, entry in alone.items()} == {"off": 0.0, "one": 2.0, "two": 0.0}
    assert task_modalities(alone) == {"one": {"image", "text"}}
