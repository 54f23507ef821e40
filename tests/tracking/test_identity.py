from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from commonspace.errors import ConfigError, DataError
from commonspace.tracking.identity import config_hash, held, run_identity

CONFIG = {"seed": 1, "stage": {"name": "pretrain"}, "paths": {"runs": "runs"}, "logger": {"csv": True}}


def test_a_restart_finds_its_id(tmp_path: Path) -> None:
    first = run_identity(tmp_path, CONFIG)
    again = run_identity(tmp_path, CONFIG)
    assert again.run_id == first.run_id and again.created == first.created
    assert not first.restarted and again.restarted


def test_a_changed_config_is_another_run_and_where_it_lies_is_not(tmp_path: Path) -> None:
    first = run_identity(tmp_path, CONFIG)
    assert run_identity(tmp_path, {**CONFIG, "seed": 2}).run_id != first.run_id
    assert run_identity(tmp_path, {**CONFIG, "paths": {"runs": "elsewhere"}}).run_id == first.run_id


def test_the_same_run_goes_on_with_other_processes(tmp_path: Path) -> None:
    config = {**CONFIG, "trainer": {"strategy": "auto", "devices": 1, "precision": "auto"}, "data": {"workers": 1}}
    first = run_identity(tmp_path, config)
    shared = {**config, "trainer": {"strategy": "fsdp", "devices": 2, "precision": "auto", "save_shares": True}}
    assert run_identity(tmp_path, {**shared, "data": {"workers": 1, "stall_seconds": 9}}).run_id == first.run_id
    rounded = {**config, "trainer": {**config["trainer"], "precision": "bf16-mixed"}}
    assert run_identity(tmp_path, rounded).run_id != first.run_id


def test_fresh_puts_the_old_one_aside(tmp_path: Path) -> None:
    first = run_identity(tmp_path, CONFIG)
    second = run_identity(tmp_path, CONFIG, fresh=True)
    assert second.run_id != first.run_id
    assert run_identity(tmp_path, CONFIG).run_id == second.run_id


def test_fresh_runs_of_one_job_differ_and_its_next_turn_goes_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "417")
    ids = [run_identity(tmp_path, CONFIG, fresh=True).run_id for _ in range(3)]
    assert ids == [f"{config_hash(CONFIG)[:8]}-417{n}" for n in ("", "-2", "-3")]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run_identity(tmp_path, CONFIG, fresh=True).run_id == ids[-1]
    monkeypatch.setenv("SLURM_JOB_ID", "416")  # which was put back before it had an identity
    assert run_identity(tmp_path, CONFIG, fresh=True).run_id == f"{config_hash(CONFIG)[:8]}-416-4"


def test_a_job_of_torchrun_without_a_name_has_an_id_of_its_own(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert run_identity(tmp_path / "a", CONFIG).run_id != run_identity(tmp_path / "b", CONFIG).run_id
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "night")
    assert run_identity(tmp_path / "c", CONFIG).run_id.endswith("-night")


def _hold(run: str) -> str:
    try:
        with held(Path(run)):
            return "held"
    except ConfigError as error:
        return str(error)


def test_one_process_trains_a_run_at_a_time(tmp_path: Path, monkeypatch) -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        with held(tmp_path / "run"):
            assert "another process trains this very run" in pool.apply(_hold, [str(tmp_path / "run")])
            monkeypatch.setenv("LOCAL_RANK", "1")
            with held(tmp_path / "run"):
                pass  # a further process of the same run
        assert pool.apply(_hold, [str(tmp_path / "run")]) == "held"


def test_where_nothing_can_be_locked_a_run_is_warned_of(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *given: (_ for _ in ()).throw(OSError(38, "Function not implemented")))
    with held(tmp_path / "run"):
        assert "cannot be locked (Function not implemented)" in caplog.text


def test_slurm_job_number_is_the_id_on_every_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "417")
    ids = {run_identity(tmp_path / rank, CONFIG).run_id for rank in "01"}
    assert ids == {f"{config_hash(CONFIG)[:8]}-417"}


def _ask(folder: str) -> str:
    return run_identity(folder, CONFIG).run_id


@pytest.mark.slow
def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        assert len(set(pool.map(_ask, [str(tmp_path)] * 64))) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run_identity(tmp_path, CONFIG)
    file = next(tmp_path.glob("identity-*.json"))
    file.write_text(json.dumps({"run_id": "x"}))
    with pytest.raises(DataError, match=file.name):
        run_identity(tmp_path, CONFIG)
