"""A snapshot is the code as it was: it runs, says of which commit it is, and one code has one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commonspace.launching import snapshot as module
from commonspace.launching.snapshot import Snapshot
from commonspace.tracking.state import code_state
from tests.tracking.test_state import git

ROOT = Path(__file__).parents[2]


def test_a_snapshot_runs_by_itself_and_knows_its_commit(tmp_path: Path) -> None:
    taken = Snapshot(tmp_path)
    assert taken.take() == taken.folder and Snapshot(tmp_path).take() == taken.folder
    assert [path.name for path in tmp_path.iterdir()] == [taken.digest], (
        "one code is kept once, nothing half done stays"
    )
    probe = (
        "from commonspace.configuration import compose, config_folder; import commonspace, data_prep, json;"
        "from commonspace.tracking.state import code_state; from commonspace.evaluation.results import current_commit;"
        "compose('train', ['experiment=tiny/align']);"
        "places = [commonspace.__file__, data_prep.__file__, str(config_folder())];"
        "print(json.dumps([*places, code_state(), current_commit()]))"
    )
    environment = {**os.environ, "PYTHONPATH": taken.python_path}
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *files, state, short = json.loads(done.stdout)
    assert all(file.startswith(str(taken.folder)) for file in files)
    assert state == {**code_state(ROOT), "snapshot": taken.digest}
    assert state["commit"].startswith(short.removesuffix("+"))


def test_what_is_edited_later_is_another_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("1")
    monkeypatch.setattr(module, "_sources", lambda: [("src", "a.py", tmp_path / "a.py")])
    first = Snapshot(tmp_path / "kept").take()
    (tmp_path / "a.py").write_text("2")
    second = Snapshot(tmp_path / "kept").take()
    assert first != second
    assert [(folder / "src/a.py").read_text() for folder in (first, second)] == ["1", "2"]


TAKE = "from commonspace.launching.snapshot import Snapshot; print(Snapshot(Path('runs/snapshots')).take())"
START = (
    "from commonspace.tracking.record import record_start; from commonspace.tracking.state import code_state;"
    "record_start(Path('runs/run'), {}, {'run': {'code': code_state()}})"
)


@pytest.mark.parametrize("dirty", [False, True])
def test_a_job_that_starts_later_keeps_the_difference_that_its_snapshot_had(tmp_path: Path, dirty: bool) -> None:
    """The snapshot lies inside the checkout it was taken of, which is edited before the job starts."""
    for name, file in Snapshot(tmp_path).files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, tmp_path / name)
    (tmp_path / ".gitignore").write_text("runs/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    edited = tmp_path / "requirements.lock"
    if dirty:
        edited.write_text("edited before\n")

    def run(script: str, code: Path) -> str:
        environment = {**os.environ, "PYTHONPATH": f"{code / 'src'}:{code}"}
        command = [sys.executable, "-c", f"from pathlib import Path; {script}"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    expected = code_state(tmp_path)
    snapshot = Path(run(TAKE, tmp_path))
    edited.write_text("edited later\n")
    run(START, snapshot)
    told = json.loads((tmp_path / "runs/run/starts.jsonl").read_text())
    assert told["run"]["code"] == {**expected, "snapshot": snapshot.name} and expected["dirty"] == dirty
    if dirty:
        kept = (tmp_path / "runs/run" / told["diff_file"]).read_text()
        assert "+edited before" in kept and hashlib.sha256(kept.strip().encode()).hexdigest() == expected["diff_sha256"]
    else:
        assert "diff_file" not in told and not list((tmp_path / "runs/run").glob("*.diff"))
