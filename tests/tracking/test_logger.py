from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from commonspace.config_values import resolved
from commonspace.configuration import compose
from commonspace.errors import ConfigError, DataError
from commonspace.tracking import record
from commonspace.tracking.identity import Identity, run_identity
from commonspace.tracking.logger import close, log_difference, log_table, make_loggers
from commonspace.tracking.reader import read_runs
from commonspace.tracking.runs import main
from tests.tracking.conftest import until_written

IDENTITY = Identity("abcd-1", "abcd", "1", 0.0)
OFFLINE = {"mode": "offline", "project": "commonspace", "group": "tiny"}


def test_the_config_says_which_loggers_there_are(tmp_path: Path) -> None:
    kinds = {
        (True, False): [CSVLogger],
        (False, True): [WandbLogger],
        (True, True): [CSVLogger, WandbLogger],
    }
    for (csv, wandb), expected in kinds.items():
        config = {"name": "x", "tags": ["one"], "logger": {"csv": csv, "wandb": OFFLINE if wandb else None}}
        assert [type(logger) for logger in make_loggers(tmp_path, config, IDENTITY)] == expected


def test_no_logger_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither csv nor wandb"):
        make_loggers(tmp_path, {"logger": {"csv": False, "wandb": None}}, IDENTITY)


def test_nothing_is_written_before_something_is_logged(tmp_path: Path) -> None:
    make_loggers(tmp_path, {"name": "x", "tags": [], "logger": {"csv": True, "wandb": OFFLINE}}, IDENTITY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wandb", [OFFLINE, None])
def test_tags_are_the_runs_own_whatever_logs_it(tmp_path: Path, wandb: dict | None) -> None:
    config = {"name": "x", "tags": ["one"], "logger": {"csv": True, "wandb": wandb}}
    loggers = make_loggers(tmp_path, config, IDENTITY)
    tags = [logger._wandb_init["tags"] for logger in loggers if isinstance(logger, WandbLogger)]
    assert tags == ([["one"]] if wandb else [])


def test_a_second_job_in_one_process_logs_a_run_of_its_own(tmp_path: Path) -> None:
    ids = []
    for name in ("first", "second"):
        config = {"name": name, "tags": [], "logger": {"csv": False, "wandb": OFFLINE}}
        (logger,) = make_loggers(tmp_path / name, config, Identity(name, "abcd", "1", 0.0))
        logger.log_metrics({"loss": 1.0}, step=0)
        ids.append(logger.experiment.id)
    logger.experiment.finish()
    assert ids == ["first", "second"]


@pytest.mark.slow
def test_logs_are_ended_one_by_one() -> None:
    ended: list[str] = []
    logs = [SimpleNamespace(finalize=ended.append), SimpleNamespace(finalize=ended.append)]
    close(logs)
    close(logs, status=143)
    assert ended == ["success", "success", "failed", "failed"]


def test_the_log_of_an_interrupted_run_is_whole_before_its_process_ends(tmp_path: Path) -> None:
    config = {"name": "x", "tags": [], "stage": {"name": "pretrain"}, "logger": {"csv": True, "wandb": OFFLINE}}
    loggers = make_loggers(tmp_path, config, IDENTITY)
    for logger in loggers:
        logger.log_metrics({"train/loss": 0.5}, step=1)
    close(loggers, status=138)
    (run,) = read_runs(tmp_path)
    assert run.state == "interrupted" and run.history["train/loss"].tolist() == [0.5]


def test_a_table_is_read_back_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"task": "recipe", "records": 48, "epochs": 0.5}, {"task": "code", "records": 7, "epochs": 2.0}]
    config = {"name": "x", "tags": [], "stage": {"name": "pretrain"}, "logger": {"csv": True, "wandb": OFFLINE}}
    loggers = make_loggers(tmp_path, config, IDENTITY)
    log_table(loggers, "mixture/schedule", rows)
    for logger in loggers:
        logger.log_metrics({"train/loss": 0.5}, step=1)
    close(loggers)
    until_written(tmp_path)
    (run,) = read_runs(tmp_path)
    assert run.table("mixture/schedule").to_dict("records") == rows
    assert run.history["train/loss"].dropna().tolist() == [0.5]
    assert main([str(tmp_path), "--table", "mixture/schedule", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"run": "x", **row} for row in rows]
    for key in ("train/loss", "no/such"):
        with pytest.raises(DataError, match=f"logged no table {key}"):
            run.table(key)
    for file in tmp_path.rglob("*.table.json"):
        file.unlink()
    with pytest.raises(DataError, match=r"table\.json: is not there"):
        run.table("mixture/schedule")


def test_what_the_checkout_had_beyond_its_commit_is_among_the_runs_files(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(record, "code_difference", lambda: "- old\n+ new")
    monkeypatch.setattr(record, "code_state", lambda: {"diff_sha256": "0" * 64})
    config = resolved(compose("train", ["experiment=tiny/pretrain", f"paths.runs={tmp_path}"]))
    loggers = make_loggers(tmp_path, config, run_identity(tmp_path, config), record=True)
    log_difference(loggers, tmp_path)
    close(loggers)
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/files/000000000000.diff")
    assert kept.read_text() == "- old\n+ new\n"
