from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from commonspace.tracking.state import code_difference, code_state, hardware_state, lock_state


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_code_state_follows_the_checkout(tmp_path: Path) -> None:
    assert code_state(tmp_path) == {"commit": None, "dirty": None, "diff_sha256": None}
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one\n")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "one")
    clean = code_state(tmp_path)
    assert clean == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False, "diff_sha256": None}
    (tmp_path / "file").write_text("two\n")
    changed = code_state(tmp_path)
    assert changed["commit"] == clean["commit"] and changed["dirty"] and len(changed["diff_sha256"]) == 64
    (tmp_path / "file").write_text("three\n")
    assert code_state(tmp_path)["diff_sha256"] != changed["diff_sha256"]


def test_a_file_that_git_does_not_know_makes_the_code_another(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("*.log\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    (tmp_path / "src").mkdir()
    (tmp_path / "src/new.py").write_text("RATE = 2\n")
    (tmp_path / "src/run.log").write_text("ignored\n")
    (tmp_path / "notes.txt").write_text("no code\n")
    assert code_state(tmp_path)["dirty"] and code_difference(tmp_path) == "new file src/new.py\nRATE = 2\n"
    first = code_state(tmp_path)["diff_sha256"]
    (tmp_path / "src/.#new.py").symlink_to("no such file")
    assert code_state(tmp_path)["diff_sha256"] == first
    (tmp_path / "src/new.py").write_text("RATE = 3\n")
    assert code_state(tmp_path)["diff_sha256"] != first


def test_tables_that_a_recipe_writes_do_not_make_its_code_another(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "table.md").write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    clean = code_state(tmp_path)
    (tmp_path / "docs" / "table.md").write_text("two\n")
    assert code_state(tmp_path) == clean


def test_lock_and_packages(tmp_path: Path) -> None:
    assert lock_state(tmp_path)["lock_sha256"] is None
    (tmp_path / "requirements.lock").write_text("torch==2\n")
    state = lock_state(tmp_path)
    assert state["lock_sha256"] == hashlib.sha256(b"torch==2\n").hexdigest()
    assert state["torch"][0].isdigit() and state["python"].startswith("3.")


def test_hardware() -> None:
    state = hardware_state()
    assert state["cores"] >= 1 and state["memory_gib"] > 0.5 and state["processor"] and isinstance(state["gpus"], list)


def test_new_files_beside_a_package_that_lies_in_anothers_checkout_are_not_its_own(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "venv/lib").mkdir(parents=True)
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    (tmp_path / "venv/lib/grün.py").write_text("x = 1\n")
    assert code_difference(tmp_path / "venv/lib") == ""
    assert code_difference(tmp_path) == "new file venv/lib/grün.py\nx = 1\n"
