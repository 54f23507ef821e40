"""`commonspace train` end to end on a small model: what it logs, how it goes on, what it leaves behind."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commonspace.config_values import resolved
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.kept_scores import read_queries, read_scores
from commonspace.models.embedder import Embedder
from commonspace.models.folder import check_golden, folder_fingerprint
from commonspace.stages.origin import Origin, origin_of
from commonspace.stages.sharded_strategy import to_whole
from commonspace.stages.train import chosen_tasks, task_modalities, train
from commonspace.stages.trainer import resumed_from
from commonspace.tracking.reader import read_runs
from commonspace.tracking.record import last_start
from tests.models.tiny import tiny_embedder
from tests.negatives import write_negatives
from tests.stages import ranks
from tests.stages.training import MODEL, settings, start_model, trained, write_pairs

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
    assert {f"train/epochs/{task}" for task in ("image_caption", "summary")} <= keys
    assert {"dev/mean", "dev/image_caption image->text", "dev/image_caption text->image"} <= keys
    assert {"dev/image_caption image->text gap", "dev/summary text->text"} <= keys
    by_task = [values(rows, f"train/loss/{task}") for task in ("image_caption", "summary")]
    assert sum(map(len, by_task)) == len(values(rows, "train/loss")) == STEPS, "a step logs its own task alone"
    assert len(values(rows, "dev/mean")) == 2
    (run,) = read_runs(place / "runs")
    assert keys - {"step", "epoch"} <= set(run.history), "the W&B log tells what the CSV tells"
    assert run.table("mixture/schedule").to_dict("records") == run.setting("arithmetic.schedule")


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


def test_a_run_that_keeps_scores_alone_is_scored_on_every_task_and_trained_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = settings(place, *overrides(place, "save=false", "stage.dev_undrawn=true", "data.tasks.summary.rate=0"))
    mean = train(cell)
    (run,) = (path.parent for path in (place / "runs").rglob("dev.json"))
    assert not (place / "models").exists() and not (run / "checkpoints").exists()
    scores, queries = read_scores(run), read_queries(run)
    assert set(queries["task"]) == {"image_caption", "summary"} and len(queries) == 4 * 6 - 6
    for (task, direction), part in queries.groupby(["task", "direction"]):
        assert scores[f"{task} {direction}"] == pytest.approx(part["reciprocal_rank"].mean())
    monkeypatch.setattr("commonspace.stages.train.starting_model", lambda plain: pytest.fail("trained again"))
    assert train(cell) == mean == scores["mean"] and "ended before" in capsys.readouterr().out
    start = last_start(run)
    assert start["init_fingerprint"] == folder_fingerprint(place / "start") and start["data_fingerprints"]
    (run / "starts.jsonl").write_text(json.dumps({**start, "init_fingerprint": "another model's"}) + "\n{cut")
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        train(cell)
    assert read_scores(run) is None, "what it said of the other model is gone"
    (run / "dev.json").write_text("[]")
    with pytest.raises(DataError, match="dev.json: no dev scores .*train the run again"):
        train(cell)


def test_a_run_that_keeps_no_checkpoints_leaves_its_model_and_is_trained_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    once = settings(place, *overrides(place, "callbacks.keep=0"))
    mean = train(once)
    (model,) = (path.parent for path in (place / "models").rglob("model.safetensors"))
    assert not list((place / "runs").rglob("*.ckpt"))
    monkeypatch.setattr("commonspace.stages.train.starting_model", lambda plain: pytest.fail("trained again"))
    assert train(once) == mean and "ended before" in capsys.readouterr().out
    shutil.rmtree(model)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        train(once)
    assert f"itsmodelisnolongerat{model}" in "".join(capsys.readouterr().out.split()), "lines break anywhere"


def test_a_model_that_was_made_anew_under_its_name_is_begun_from_anew(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = settings(place, *overrides(place))
    train(once)
    (first,) = (place / "runs").rglob("starts.jsonl")
    (model,) = (path.parent for path in (place / "models").rglob("model.safetensors"))
    train(once)
    assert len(first.read_text().splitlines()) == 2, "the same start: it goes on"
    tiny_embedder(seed=5).save(place / "start")
    train(once)
    (second,) = {*(place / "runs").rglob("starts.jsonl")} - {first}
    assert f"{first.parent}:beganfromotherrows" in "".join(capsys.readouterr().out.split()), "lines break anywhere"
    assert json.loads((model / "training.json").read_text())["run_id"] == second.parent.name
    assert len(first.read_text().splitlines()) == 2 and list(first.parent.rglob("*.ckpt")), "the old run stays"


def test_lists_of_negatives_that_were_mined_anew_are_other_data(place: Path) -> None:
    """Their folder is the same, and so is the config; what was trained on the old ones is no longer what it says."""
    shards, lists = ShardReader(place / "data/made/summary", "train"), place / "negatives"
    keys = [str(key) for key in shards.column("key")]

    def mined(step: int) -> Origin:
        wrong = {key: [keys[(number + step) % len(keys)]] for number, key in enumerate(keys)}
        write_negatives(lists / "summary.parquet", shards, wrong, {key: [0.5] for key in keys})
        plain = resolved(settings(place, *overrides(place)))
        plain["data"]["negatives"] = str(lists)  # as a fine-tune has it
        return origin_of(plain)

    first, second = mined(1), mined(2)
    assert set(first.fingerprints) - {"summary/negatives"} == set(mined(1).fingerprints) - {"summary/negatives"}
    start = {"data_fingerprints": dict(first.fingerprints), "init_fingerprint": first.init_id}
    assert mined(1).is_of(start) and not second.is_of(start)
    del start["data_fingerprints"]["summary/negatives"]
    assert second.is_of(start), "of a run that did not know its lists yet nothing is known"


def test_scores_alone_want_dev_pairs(place: Path) -> None:
    (place / "data/made/image_caption/dev.json").unlink()
    with pytest.raises(ConfigError, match="save=false keeps dev scores alone, and no task"):
        train(settings(place, *overrides(place, "save=false", "data.tasks.summary.rate=0", "stage.dev_every=0.0")))


def test_dev_chooses_among_the_weights_of_a_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dev is best in the middle: that is where `best` points, and what the model folder gets."""
    from commonspace.stages.dev import DevRetrieval

    means = iter((0.2, 0.9, 0.5, 0.9))  # as it came, after four steps, after eight, and once more when it is saved
    monkeypatch.setattr(DevRetrieval, "scores_of", lambda *_: {"mean": next(means)})
    chosen = ["stage.dev_first=true", "stage.keep_best=true", "logger=csv"]
    assert train(settings(place, *overrides(place, *chosen))) == 0.9
    rows = logged(place / "runs")
    assert [(int(row["step"]), float(row["dev/mean"])) for row in rows if row.get("dev/mean")] == [
        (0, 0.2), (3, 0.9), (8, 0.9)
    ]  # fmt: skip
    (folder,) = (place / "runs").rglob("checkpoints")
    best = torch.load(folder / "best.ckpt", weights_only=True)
    assert best["global_step"] == 4 and (folder / "last.ckpt").resolve().name == f"step={STEPS}.ckpt"
    saved = load_file(place / "models/made/first/model.safetensors")
    assert all(torch.equal(saved[n.removeprefix("embedder.")], t) for n, t in best["state_dict"].items())


def test_tasks_meet_in_a_batch_and_the_schedule_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["data.sub_batches=2", "objective.reverse=false", "stage.dev_every=0.0", "logger=csv"]
    train(settings(place, *overrides(place, *both)))
    said, rows = capsys.readouterr().out, logged(place / "runs")
    assert len(values(rows, "train/loss/mixed")) == STEPS
    for task, batches in (("image_caption", 12), ("summary", 12)):  # of 48 records in sub-batches of 4
        epochs = values(rows, f"train/epochs/{task}")
        assert epochs == sorted(epochs) and epochs[-1] * batches == pytest.approx(round(epochs[-1] * batches))
        assert re.search(rf"{task}\W+48\W+8\W+[\d.]+\W+{epochs[-1]:.2f}", said), "records, batch, steps, epochs"
    spent = sum(12 * values(rows, f"train/epochs/{task}")[-1] for task in ("image_caption", "summary"))
    assert spent == pytest.approx(2 * STEPS), "the two tasks' sub-batches are all there were"


def test_training_reads_shards_that_lie_elsewhere(place: Path) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    for path in (place / "data").rglob("*.*"):
        system.pipe(f"/shards/{path.relative_to(place / 'data')}", path.read_bytes())
    few = ["stage.steps=2", "logger=csv"]
    train(settings(place, *overrides(place, *few, "name=here")))
    train(settings(place, *overrides(place, *few, "name=far", "paths.data=memory://shards")))
    here, far = (place / "models/made" / name for name in ("here", "far"))
    weights = [load_file(folder / "model.safetensors") for folder in (here, far)]
    assert all(torch.equal(weights[1][name], tensor) for name, tensor in weights[0].items())
    table = "| source | licence |"
    assert (far / "README.md").read_text().split(table)[1] == (here / "README.md").read_text().split(table)[1]
    system.rm("/shards", recursive=True)


KILLED = """
import os, signal, sys
from commonspace.cli import main
from commonspace.stages.contrastive import ContrastiveStage

def die(stage, *_):
    if stage.trainer.global_step == 5:
        os.kill(os.getpid(), int(os.environ["KILLED_BY"]))

ContrastiveStage.on_train_batch_end = die
sys.exit(main(["train", *sys.argv[1:]]))
"""
# Draws of the training process itself, and an average of what went before: a resumed run must have the same.
DROPOUT = ["stage.dropout=0.1", "stage.average=ema"]


def killed(place: Path, number: signal.Signals) -> None:
    """`commonspace train` in a process that gets a signal after its fifth step."""
    folders = [f"paths.{name}={place / name}" for name in ("data", "cache", "runs", "models", "docs")]
    command = [sys.executable, "-c", KILLED, *overrides(place, *DROPOUT), *folders]
    own = {**{k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}, "KILLED_BY": str(int(number))}
    died = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    expected = -number if number is signal.SIGKILL else 128 + number
    assert died.returncode == expected, died.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_run_that_is_told_to_end_loses_no_step(place: Path, number: signal.Signals) -> None:
    """The checkpoint before was after four steps; the one that the signal asks for is after six."""
    killed(place, number)
    train(settings(place, *overrides(place, *DROPOUT)))
    steps = [int(row["step"]) for row in logged(place / "runs") if row.get("train/loss")]
    assert sorted(steps) == list(range(STEPS)), "nothing was trained twice"
    train(settings(place, *overrides(place, *DROPOUT, f"paths.runs={place / 'others'}", f"output={place / 'whole'}")))
    folders = (place / "models/made/first", place / "whole")
    resumed, whole = (load_file(folder / "model.safetensors") for folder in folders)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_its_soup_loads(place: Path) -> None:
    """Train, kill without warning, resume under the same id to the weights of a run nobody killed, average two."""
    from commonspace.stages.soup import soup

    config = settings(place, *overrides(place, *DROPOUT))
    killed(place, signal.SIGKILL)
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

    train(settings(place, *overrides(place, *DROPOUT, f"paths.runs={place / 'others'}", f"output={place / 'whole'}")))
    resumed, whole = (load_file(folder / "model.safetensors") for folder in (model, place / "whole"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)

    train(settings(place, *overrides(place, "name=second", "seed=2")))
    both = f"ingredients=[{model},{place / 'models/made/second'}]"
    uniform = f"uniform_output={place / 'models/made/soup_uniform'}"
    score = soup(settings(place, both, uniform, "data.tier=made", "data.features=false", root="soup"))
    for name in ("soup", "soup_uniform"):
        folder = place / f"models/made/{name}"
        check_golden(Embedder.load(folder), folder)
    recipe = json.loads((place / "models/made/soup/soup.json").read_text())
    assert recipe["dev"]["mean"] == pytest.approx(score) and recipe["kind"] == "greedy"


def test_a_step_of_two_batches_is_one_step_in_the_log(place: Path) -> None:
    train(settings(place, *overrides(place, "stage.accumulate=2", "stage.steps=4", "logger=csv")))
    rows = logged(place / "runs")
    assert len(values(rows, "train/loss")) == 8 and len(values(rows, "train/gradient_norm")) == 4
    steps = [int(row["step"]) for row in rows if row.get("train/loss")]
    assert steps == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(values(rows, "dev/mean")) == 2


@pytest.mark.parametrize(
    "options",
    [
        ["objective=sigmoid", "stage.learn_temperature=true", "stage.temperature=0.1"],
        ["objective.spread=0.5", "objective.matryoshka_weights=[1,1,2]", "+stage.modality_temperatures.image=0.05"],
    ],
    ids=["sigmoid", "spread, weights, modalities"],
)
def test_other_objectives_train_and_save(place: Path, options: list[str]) -> None:
    train(settings(place, *overrides(place, *options, "stage.steps=2", "stage.dev_every=0.0", "logger=csv")))
    keys = {key for row in logged(place / "runs") for key, value in row.items() if value}
    assert ("train/spread/image_caption" in keys or "train/spread/summary" in keys) == ("sigmoid" not in options[0])
    learned = {key for key in keys if key.startswith("train/learned_temperature/")}
    assert learned == ({"train/learned_temperature/others"} if "sigmoid" in options[0] else set())
    check_golden(Embedder.load(place / "models/made/first"), place / "models/made/first")


@pytest.mark.slow
def test_two_processes_of_the_command_learn_as_one_and_save_a_whole_model(place: Path) -> None:
    """Replicated and sharded; in float32, so no closer than rounding lets them be."""
    plain = overrides(place, "logger=csv", "stage.steps=4", "stage.average=ema", "stage.average_decay=0.9")
    alone = train(settings(place, *plain, "name=alone"))
    expected = values(logged(place / "runs/made/alone"), "train/loss")
    two = ["trainer.accelerator=cpu", "trainer.devices=2"]
    kinds = {"ddp": ["trainer=ddp"], "fsdp": ["trainer=fsdp", "trainer.save_shares=true"]}
    cases = {name: [str(place), *plain, *kind, *two, f"name={name}"] for name, kind in kinds.items()}
    for found in ranks.run(trained, cases, 2, place / "ranks"):
        assert [float(found[name]["dev"]) for name in kinds] == pytest.approx([alone, alone], abs=0.1)
    for name in kinds:
        rows = logged(place / "runs/made" / name)
        assert values(rows, "train/loss") == pytest.approx(expected, abs=2e-3), "each once, of the whole batch"
        check_golden(Embedder.load(place / "models/made" / name), place / "models/made" / name)
        (last,) = (place / "runs/made" / name).rglob("last.ckpt")
        file = last if last.is_file() else to_whole(last, place / "whole.ckpt")
        assert last.is_file() == (name == "ddp") and torch.load(file, weights_only=True)["global_step"] == 4


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


def test_a_checkpoint_in_shares_is_for_sharded_training(tmp_path: Path) -> None:
    assert resumed_from(tmp_path, "fsdp") is None
    state = tmp_path / "step=2.ckpt"
    (tmp_path / "last.ckpt").symlink_to(state.name)
    state.mkdir()
    assert resumed_from(tmp_path, "fsdp") == str(state)
    with pytest.raises(ConfigError, match=r"step=2.ckpt: was saved in shares, .* `commonspace checkpoint .*=2.ckpt -o"):
        resumed_from(tmp_path, "ddp")
    state.rmdir()
    state.touch()
    assert resumed_from(tmp_path, "auto") == resumed_from(tmp_path, "fsdp") == str(state)


def test_the_first_task_alone() -> None:
    task = {"direction": "image+text -> text", "batch_size": 4}
    tasks = {"off": {**task, "rate": 0}, "one": {**task, "rate": 2.0}, "two": {**task, "rate": 1.0}}
    assert chosen_tasks({"tasks": tasks, "first_only": False}) == tasks
    alone = chosen_tasks({"tasks": tasks, "first_only": True})
    assert {name: entry["rate"] for name, entry in alone.items()} == {"off": 0.0, "one": 2.0, "two": 0.0}
    assert task_modalities(alone) == {"one": {"image", "text"}}
