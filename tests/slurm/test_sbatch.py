"""The sbatch files, submitted to a real cluster with a small real command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commonspace.cli import overrides_of
from commonspace.configuration import compose

ROOT = Path(__file__).parents[2]
PAIRS = '{"query": "a red fox", "positive": "un renard roux"}\n{"query": "a grey wolf", "positive": "un loup gris"}\n'


def submit(environment: dict[str, str], folder: Path, *words: str) -> str:
    """Submit from a folder and return the job's number."""
    (folder / "runs/slurm").mkdir(parents=True, exist_ok=True)
    commonspace = shutil.which("commonspace", path=str(Path(sys.executable).parent))
    variables = {**environment, "COMMONSPACE": str(commonspace), "COMMONSPACE_COMMAND": "data"}
    done = subprocess.run(["sbatch", *words], cwd=folder, env=variables, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return re.search(r"\d+$", done.stdout.strip()).group()


def wait(environment: dict[str, str], job: str, seconds: float = 400) -> None:
    """Until no task of the job is queued or running. `sbatch --wait` asks ever more rarely."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        left = subprocess.run(["squeue", "-h", "-j", job], env=environment, capture_output=True, text=True).stdout
        if not left.strip():
            return
        time.sleep(0.5)
    pytest.fail(f"job {job} is still there after {seconds} s: {left}")


def finished(environment: dict[str, str]) -> str:
    return Path(environment["SLURM_CONF"]).with_name("finished.txt").read_text()


@pytest.mark.slow
def test_one_job_runs_the_command_it_is_given(cluster: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    job = submit(cluster, tmp_path, str(ROOT / "slurm/train.sbatch"), "build", "own", "pairs.jsonl", "name=first")
    wait(cluster, job)
    log = (tmp_path / f"runs/slurm/commonspace-{job}.log").read_text()
    assert (tmp_path / "data/first/manifest.json").is_file(), log
    assert re.search(rf"JobId={job} .*JobState=COMPLETED", finished(cluster))


@pytest.mark.slow
def test_a_failing_command_fails_its_job(cluster: dict[str, str], tmp_path: Path) -> None:
    job = submit(cluster, tmp_path, str(ROOT / "slurm/train.sbatch"), "build", "own", "absent.jsonl")
    wait(cluster, job)
    assert "absent.jsonl" in (tmp_path / f"runs/slurm/commonspace-{job}.log").read_text()
    assert re.search(rf"JobId={job} .*JobState=FAILED", finished(cluster))


@pytest.mark.slow
def test_an_array_runs_one_line_a_task(cluster: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    lines = ["# a comment", "", "build own pairs.jsonl name=one", "build own 'pairs.jsonl' name=two"]
    (tmp_path / "sweep.txt").write_text("\n".join(lines) + "\n")
    job = submit(cluster, tmp_path, "--array=1-3%2", str(ROOT / "slurm/sweep.sbatch"), "sweep.txt")
    wait(cluster, job)
    logs = {n: (tmp_path / f"runs/slurm/commonspace-sweep-{job}-{n}.log").read_text() for n in (1, 2, 3)}
    for name in ("one", "two"):
        manifest = json.loads((tmp_path / f"data/{name}/manifest.json").read_text())
        assert manifest["name"] == name, logs
    assert "sweep.txt has no line 3" in logs[3]


@pytest.mark.slow
def test_hydra_launches_a_multirun_as_an_array(cluster: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    command = [
        sys.executable, "-m", "commonspace.cli", "data", "build", "own", "pairs.jsonl", "launcher=slurm",
        "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=5", "name=a,b", "-m",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=cluster, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data/a/manifest.json").is_file() and (tmp_path / "data/b/manifest.json").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "slurm/sweeps").glob("*.txt")), ids=lambda path: path.name)
def test_every_line_of_a_sweep_composes(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    names = [compose("train", overrides_of("train", line.split())).name for line in lines]
    assert len(set(names)) == len(lines), "two runs of a sweep would write one folder"
    assert f"--array=1-{len(lines)}" in path.read_text()


@pytest.mark.parametrize("name", ["train.sbatch", "sweep.sbatch", "cluster.sh"])
def test_scripts_parse(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / "slurm" / name)], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["train.sbatch", "sweep.sbatch"])
def test_jobs_save_themselves_before_their_time_is_up(name: str) -> None:
    text = (ROOT / "slurm" / name).read_text()
    assert all(f"#SBATCH {option}" in text for option in ("--requeue", "--signal=SIGUSR1@", "--open-mode=append"))
