"""Submitting to the cluster of the tests, and waiting for what becomes of it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAIRS = '{"query": "a red fox", "positive": "un renard roux"}\n{"query": "a grey wolf", "positive": "un loup gris"}\n'


class Cluster:
    """What a user has of a cluster: the environment of its commands."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def submit(self, folder: Path, *words: str, command: str = "train", python: str = sys.executable) -> str:
        """sbatch from a folder, running the code of this checkout; returns the job's number."""
        (folder / "runs/slurm").mkdir(parents=True, exist_ok=True)
        variables = {"COMMONSPACE_HOME": str(ROOT), "COMMONSPACE_PYTHON": python, "COMMONSPACE_COMMAND": command}
        done = self.run("sbatch", "--parsable", *words, cwd=folder, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run(self, *words: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in the cluster's environment."""
        environment = {**self.environment, **variables}
        return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)

    def wait(self, *jobs: str, seconds: float = 240) -> None:
        """Until no task of the jobs is queued or running. `sbatch --wait` asks ever more rarely."""
        self.until(lambda: not self.queue(*jobs), seconds, f"jobs {jobs} to end")

    def queue(self, *jobs: str) -> str:
        """What squeue says of jobs: state and reason, a line each; empty when all have ended."""
        done = self.run("squeue", "-h", "-o", "%T %r", "-j", ",".join(jobs))
        if done.returncode and "Invalid job id" not in done.stderr:  # as one that ended long ago has
            return f"UNKNOWN {done.stderr}"  # of a busy controller: no answer is not the end
        return done.stdout.strip()

    def until(self, holds: Callable[[], object], seconds: float, what: str) -> None:
        """Wait for something to hold; fails with the queue and the end of the controller's log."""
        ends = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > ends:
                log = Path(self.environment["SLURM_CONF"]).with_name("slurmctld.log").read_text()[-1500:]
                pytest.fail(f"waited {seconds} s for {what}\n{self.run('squeue').stdout}\n{log}")
            time.sleep(0.2)

    def start_again(self, job: str, seconds: float = 60) -> None:
        """Once a job is requeued let it start soon: SLURM lets it wait for two minutes. Or it has ended meanwhile."""
        self.until(lambda: self.queue(job)[:7] in ("", "PENDING"), seconds, f"job {job} to be requeued")
        # Not at once: in the second of its end its node takes a second attempt for what it has just killed.
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now+3seconds")

    def state(self, job: str) -> str:
        """How a job ended: COMPLETED, FAILED, CANCELLED, ...; of one that was requeued, its last attempt."""
        finished = Path(self.environment["SLURM_CONF"]).with_name("finished.txt")

        def states() -> list[str]:
            told = finished.read_text() if finished.is_file() else ""
            return re.findall(rf"JobId={job} .*JobState=(\w+)", told)

        self.until(lambda: states() and states()[-1] != "PENDING", 30, f"the end of job {job}")
        return states()[-1]


def stand_in(folder: Path, script: str) -> str:
    """A program that jobs run in python's place, where what matters is what SLURM does with it."""
    path = folder / "stand-in"
    path.write_text("#!/usr/bin/env bash\n" + textwrap.dedent(script).lstrip())
    path.chmod(0o755)
    return str(path)
