from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from commonspace.child import last_line, run_command, tree_bytes


def test_output_goes_to_the_log_and_the_outcome_tells_all(tmp_path: Path) -> None:
    seen = []
    outcome = run_command(["--help"], tmp_path / "logs/help.log", on_progress=seen.append)
    assert outcome.status == 0 and outcome.seconds > 0
    assert "usage: commonspace COMMAND" in (tmp_path / "logs/help.log").read_text()
    assert outcome.tail.endswith("takes a prepared one.")
    assert seen and outcome.peak_bytes >= max(progress.bytes for progress in seen) > 0


def test_a_failure_is_an_outcome_too(tmp_path: Path) -> None:
    outcome = run_command(["nonsense"], tmp_path / "log")
    assert outcome.status == 2 and "no command 'nonsense'" in outcome.tail


def test_memory_counts_children() -> None:
    script = "x = bytearray(80_000_000); print(flush=True); input()"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {script!r}])"
    process = subprocess.Popen([sys.executable, "-c", inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        assert tree_bytes(process.pid) > 80e6
    finally:
        process.stdin.close()
        process.wait(30)
    assert tree_bytes(process.pid) == 0


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n\x1b[32mtwo\x1b[0m\n50%\r100% done\n\n")
    assert last_line(log) == "100% done"
    log.write_bytes(b"x" * 20000 + b"\nend" + os.linesep.encode())
    assert last_line(log) == "end"
    log.write_text("")
    assert last_line(log) == ""
