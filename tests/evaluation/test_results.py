"""What a result row says of the code that made it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from commonspace.evaluation.results import current_commit


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A committed tree with code, a config and results."""
    for name in ("src/model.py", "configs/train.yaml", "docs/results/rows.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
    for words in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "first"],
    ):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    return tmp_path


def test_changed_code_marks_the_commit_and_changed_results_do_not(checkout: Path) -> None:
    commit = current_commit(checkout / "src")
    assert commit is not None and len(commit) == 12
    (checkout / "docs/results/rows.jsonl").write_text("2\n")
    assert current_commit(checkout / "src") == commit
    (checkout / "configs/train.yaml").write_text("2\n")
    assert current_commit(checkout / "src") == commit + "+"


def test_outside_a_checkout_there_is_none(tmp_path: Path) -> None:
    assert current_commit(tmp_path) is None
