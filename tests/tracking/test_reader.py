from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from commonspace.errors import DataError
from commonspace.tracking.reader import find_logs, log_records, read_log, read_runs
from tests.tracking.conftest import until_written


@pytest.fixture(scope="module")
def written(offline_run, tmp_path_factory):
    return offline_run(tmp_path_factory.mktemp("runs"), ["name=alpha"])


@pytest.mark.slow
def test_reads_what_was_logged(written) -> None:
    folder, identity, config = written
    (run,) = read_runs(folder)
    assert (run.run_id, run.name, run.group, run.state) == (identity.run_id, "alpha", "tiny", "finished")
    assert run.history["train/loss"].tolist() == [1 / (step + 1) for step in range(6)]
    assert run.history["trainer/global_step"].tolist() == list(range(6))
    assert run.setting("stage.temperature") == config["stage"]["temperature"]
    assert run.setting("arithmetic.global_batch") == 512
    assert run.setting("run.hardware.cores") >= 1
    assert len(run.setting("run.packages.lock_sha256")) == 64
    assert run.setting("no.such.key", "nothing") == "nothing"


def inspected(log: Path, *flags: str) -> str:
    """What W&B's own reader prints of a log."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *flags, str(log)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def without_empty(values: Any) -> Any:
    """As that reader shows a config: mappings of nothing are left out."""
    if not isinstance(values, dict):
        return values
    return {key: without_empty(value) for key, value in values.items() if value != {}}


def logged(summary: dict[str, Any]) -> dict[str, Any]:
    """What the run logged itself."""
    return {key: value for key, value in summary.items() if not key.startswith("_")}


@pytest.mark.slow
def test_agrees_with_the_official_reader_on_whole_and_on_cut_logs(written, tmp_path: Path) -> None:
    """Record for record in the history, key for key in config and summary, and on whose run it is."""
    (whole,) = find_logs(written[0])
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 4 // 5])  # as of a run that is being written
    for log in (whole, cut):
        run, theirs = read_log(log), json.loads(inspected(log, "--summary"))
        records = [json.loads(line) for line in inspected(log).splitlines()]
        history = [record["history"]["item"] for record in records if "history" in record]
        assert run.history.to_dict("records") == history and len(history) > 1
        assert without_empty(run.config) == theirs["config"] and run.config["stage"]["temperature"] > 0
        assert logged(run.summary) == pytest.approx(logged(theirs["summary"])), "latest values"
        assert (run.run_id, run.name, run.project) == (theirs["run_id"], theirs["name"], theirs["project"])
        assert list(run.tags) == theirs["tags"]
        assert (run.state == "finished") == (theirs["state"] == "finished") == (log == whole)


@pytest.mark.slow
def test_what_is_no_number_stands_in_the_summary_as_the_official_reader_has_it(offline_run, tmp_path: Path) -> None:
    """A table, whose place in the log is a mapping of its own."""
    import wandb

    offline_run(tmp_path, ["name=table"], finish=False)
    wandb.run.log({"mixture/schedule": wandb.Table(columns=["task"], data=[["speech"]])})
    wandb.finish()
    until_written(tmp_path)
    (log,) = find_logs(tmp_path)
    summary, theirs = read_log(log).summary, json.loads(inspected(log, "--summary"))["summary"]
    assert summary["mixture/schedule"] == theirs["mixture/schedule"]
    assert logged(summary).keys() == logged(theirs).keys()


@pytest.mark.slow
def test_agrees_with_the_official_reader_on_a_run_that_is_still_logging(offline_run, tmp_path: Path) -> None:
    """It is read again and again until something stands on the disk: the service writes when it likes."""
    import wandb

    offline_run(tmp_path, ["name=live"], steps=range(1000), finish=False)
    copy, ends = tmp_path / "copy.wandb", time.monotonic() + 60
    try:
        while time.monotonic() < ends:
            if logs := find_logs(tmp_path):
                copy.write_bytes(logs[0].read_bytes())  # both read the same bytes
                if sum(1 for _ in log_records(copy)) > 100:
                    break
            time.sleep(0.2)
        run, theirs = read_log(copy), json.loads(inspected(copy, "--summary"))
    finally:
        wandb.finish()
    assert run.state == "open" and theirs["state"] != "finished"
    assert without_empty(run.config) == theirs["config"]
    assert logged(run.summary) == pytest.approx(logged(theirs["summary"])) and run.summary["train/note/x"] > 50


@pytest.mark.slow
def test_a_cut_log_gives_what_is_before_the_cut(written, tmp_path: Path) -> None:
    (log,) = find_logs(written[0])
    data = log.read_bytes()
    whole = list(log_records(log))
    for cut in (len(data) - 1, len(data) * 2 // 3):
        target = tmp_path / log.name
        target.write_bytes(data[:cut])
        part = list(log_records(target))
        assert 0 < len(part) < len(whole) and part == whole[: len(part)]
    assert read_log(target).state == "open"


@pytest.mark.slow
def test_damage_and_other_files_are_named(written, tmp_path: Path) -> None:
    (log,) = find_logs(written[0])
    data = bytearray(log.read_bytes())
    data[40] ^= 255
    broken = tmp_path / "run-x.wandb"
    broken.write_bytes(data)
    with pytest.raises(DataError, match="run-x.wandb: damaged"):
        read_log(broken)
    broken.write_bytes(b"hello")
    with pytest.raises(DataError, match="no W&B log"):
        read_log(broken)
    broken.write_bytes(bytes(log.read_bytes()[:7]))
    with pytest.raises(DataError, match="holds no run"):
        read_log(broken)
    with pytest.raises(DataError, match="no such folder"):
        read_runs(tmp_path / "absent")


def goes_on(log: Path) -> bool:
    """Whether a log says that its run may be one that is known already."""
    from wandb.proto import wandb_internal_pb2

    for payload in log_records(log):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(payload)
        if record.HasField("run"):
            return record.run.resume
    return False


@pytest.mark.slow
def test_a_restarted_run_is_one_run(offline_run, tmp_path: Path) -> None:
    first = [10.0, 9.0, 8.0, 7.0]
    offline_run(tmp_path, ["name=again"], steps=range(4), losses=first)
    offline_run(tmp_path, ["name=again"], steps=range(2, 6), losses=[0, 0, 3.0, 2.0, 1.0, 0.5])
    (run,) = read_runs(tmp_path)
    assert len(run.logs) == 2 and all(goes_on(path) for path in run.logs), "what `wandb sync` resumes by"
    assert run.history["train/loss"].tolist() == [10.0, 9.0, 3.0, 2.0, 1.0, 0.5]
    assert len(list(tmp_path.glob("csv/version_*/metrics.csv"))) == 2


def test_a_log_cut_before_it_says_whose_it_is_hides_no_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a run leaves that was killed in its first seconds."""
    log = tmp_path / "run/wandb/offline-run-20260101_000000-x/run-x.wandb"
    log.parent.mkdir(parents=True)
    log.write_bytes(b":W&B\x00\x00\x00")
    assert read_runs(tmp_path) == []
    assert "run-x.wandb: holds no run" in caplog.text
