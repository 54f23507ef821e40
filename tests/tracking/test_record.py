"""The files that a run leaves beside its logs, and the artifacts in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from commonspace.tracking import record
from commonspace.tracking.artifacts import log_evaluation, log_lineage, reference
from commonspace.tracking.identity import Identity, sweep_name
from commonspace.tracking.lineage import Node, last, write_evaluation_lineage, write_model_lineage
from commonspace.tracking.logger import close, make_loggers
from commonspace.tracking.reader import find_logs, log_records, read_runs
from commonspace.tracking.state import data_state
from tests.tracking.conftest import until_written
from tests.tracking.test_lineage import folder as made_folder

IDENTITY = Identity("abcd-1", "abcd", "1", 0.0)
CONFIG = {
    "name": "x", "tags": [], "stage": {"name": "finetune"},
    "logger": {"csv": True, "wandb": {"mode": "offline", "project": "commonspace", "group": "tiny"}},
}  # fmt: skip


def test_a_run_tells_what_it_was_and_a_restart_adds_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "code_difference", lambda: "- old\n+ new")
    monkeypatch.setattr(record, "code_state", lambda: {"commit": "c", "dirty": True, "diff_sha256": "12" * 32})
    for _ in range(2):
        make_loggers(tmp_path, CONFIG, IDENTITY, arithmetic={"steps": 3}, data={"a/train": "ff"}, record=True)
    starts = [json.loads(line) for line in (tmp_path / "starts.jsonl").read_text().splitlines()]
    assert len(starts) == 2 and starts[0]["run"]["id"] == "abcd-1"
    assert starts[0]["arithmetic"] == {"steps": 3} and starts[0]["data_fingerprints"] == {"a/train": "ff"}
    assert starts[0]["run"]["hardware"]["cores"] >= 1 and len(starts[0]["run"]["packages"]["lock_sha256"]) == 64
    assert (tmp_path / starts[1]["diff_file"]).read_text() == "- old\n+ new\n"
    assert OmegaConf.to_container(OmegaConf.load(tmp_path / "config.yaml")) == CONFIG


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    make_loggers(tmp_path, CONFIG, IDENTITY, record=True)
    assert not list(tmp_path.iterdir())


def test_fingerprints_follow_the_bytes_of_an_index(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "image/dev.json").write_text("one")
    state = data_state(tmp_path, ["image", "sound"])
    assert state == {"image/dev": hashlib.sha256(b"one").hexdigest()}
    (tmp_path / "image/dev.json").write_text("two")
    assert data_state(tmp_path, ["image"]) != state


def test_the_group_is_the_family_or_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    from commonspace.configuration import compose

    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    assert sweep_name() is None and compose("train").logger.wandb.group == "mini"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "77")
    assert compose("train").logger.wandb.group == "array-77"
    assert compose("train", ["logger.wandb.group=mine"]).logger.wandb.group == "mine"
    for choice, group in (("mask", "ablation-mask"), (None, "sweep-today")):
        told = SimpleNamespace(
            runtime=SimpleNamespace(choices={"ablation": choice}),
            mode=RunMode.MULTIRUN,
            sweep=SimpleNamespace(dir="runs/sweeps/today"),
        )
        monkeypatch.setattr(HydraConfig, "initialized", staticmethod(lambda: True))
        monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda told=told: told))
        assert sweep_name() == group, "a family that is submitted twice stays one group"


def test_the_job_type_is_the_stage_and_an_agents_id_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(config: dict = CONFIG) -> dict:
        return make_loggers(tmp_path, config, IDENTITY)[1]._wandb_init

    over = {**{key: value for key, value in CONFIG.items() if key != "stage"}, "ingredients": ["a", "b"]}
    assert asked({**over, "method": "greedy", "name": "soup_of_mine"})["job_type"] == "soup"
    assert asked({**over, "points": 5})["job_type"] == "barriers"
    assert (asked()["job_type"], asked()["id"]) == ("finetune", "abcd-1")
    monkeypatch.setenv("WANDB_RUN_ID", "left-over")
    assert asked()["id"] == "abcd-1"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    assert asked()["id"] == "left-over"


def artifacts(log: Path) -> dict[str, Any]:
    """W&B's records of the artifacts in a log, by name."""
    from wandb.proto import wandb_internal_pb2

    found = {}
    for payload in log_records(log):
        sent = wandb_internal_pb2.Record()
        sent.ParseFromString(payload)
        if sent.WhichOneof("record_type") == "artifact":
            found[sent.artifact.name] = sent.artifact
    return found


def test_artifacts_point_to_what_was_made_and_used(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    shards, model = Node("s1", "shards", "tiny"), Node("m1", "model", "fox", ("s1",), "run", {"stage": "finetune"})
    _, logger = make_loggers(tmp_path / "run", CONFIG, IDENTITY)
    log_lineage([logger], model, tmp_path / "model", [(shards, "s3://bucket/tiny/manifest.json")])
    logger.experiment.finish()
    until_written(tmp_path / "run")
    found = artifacts(find_logs(tmp_path / "run")[0])
    assert set(found) == {"model-fox", "shards-tiny"}
    told = json.loads(found["model-fox"].metadata)
    assert (told["made_of"], told["stage"], told["run_id"]) == (["s1"], "finetune", "run")
    entries = {entry.path: entry.ref for one in found.values() for entry in one.manifest.contents}
    assert entries["config.json"] == (tmp_path / "model/config.json").as_uri()
    assert json.loads(found["shards-tiny"].metadata)["url"] == "s3://bucket/tiny/manifest.json" and len(entries) == 1


def test_what_is_not_there_is_an_artifact_without_files(tmp_path: Path) -> None:
    assert not reference(Node("m", "model", "gone"), tmp_path / "gone").manifest.entries


def test_an_evaluation_is_an_artifact_of_the_run_that_trained_its_model(tmp_path: Path) -> None:
    runs, rows = tmp_path / "runs", tmp_path / "fox.jsonl"
    model = made_folder(tmp_path, "model")
    write_model_lineage(model, [], Node("s1", "shards", "tiny"), run_id=IDENTITY.run_id)
    rows.write_text('{"value": 1}\n')
    told = last(write_evaluation_lineage(rows, model, detail={"split": "dev"}))
    assert log_evaluation(rows, model, runs, mode="offline") is None, "the run is not here"
    (runs / "tiny/x").mkdir(parents=True)
    (runs / "tiny/x/identity-abcd.json").write_text(json.dumps({"run_id": IDENTITY.run_id}))
    assert log_evaluation(rows, model, runs, mode="offline") is None, "it was not logged with W&B"
    assert not list(runs.rglob("*.wandb"))
    loggers = make_loggers(runs / "tiny/x/abcd-1", CONFIG | {"tags": ["one"]}, IDENTITY)
    for logger in loggers:
        logger.log_metrics({"train/loss": 0.5}, step=3)
    close(loggers)
    until_written(runs)
    assert log_evaluation(rows, model, runs, mode="offline") == runs / "tiny/x"
    until_written(runs)
    (log,) = find_logs(runs / "tiny/x/wandb")
    found = artifacts(log)
    assert set(found) == {"model-model", "evaluation-fox"}
    about = json.loads(found["evaluation-fox"].metadata)
    assert (about["made_of"], about["id"], about["split"]) == (
        [json.loads(found["model-model"].metadata)["id"]],
        told.id,
        "dev",
    )
    assert [entry.ref for entry in found["evaluation-fox"].manifest.contents] == [rows.as_uri()]
    (run,) = read_runs(runs)
    assert (run.run_id, run.name, run.group, run.tags, len(run.logs)) == ("abcd-1", "x", "tiny", ("one",), 2)
    assert run.history["train/loss"].tolist() == [0.5] and run.setting("stage.name") == "finetune"
