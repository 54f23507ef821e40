"""A snapshot is the code as it was: it runs, says of which commit it is, and one code has one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from commonspace.launching import snapshot as module
from commonspace.launching.snapshot import Snapshot
from commonspace.tracking.state import code_state

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
    assert state == code_state(ROOT) and state["commit"].startswith(short.removesuffix("+"))


def test_what_is_edited_later_is_another_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("1")
    monkeypatch.setattr(module, "_sources", lambda: [("src", "a.py", tmp_path / "a.py")])
    first = Snapshot(tmp_path / "kept").take()
    (tmp_path / "a.py").write_text("2")
    second = Snapshot(tmp_path / "kept").take()
    assert first != second
    assert [(folder / "src/a.py").read_text() for folder in (first, second)] == ["1", "2"]
