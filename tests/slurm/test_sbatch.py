"""The sbatch files, submitted to a real cluster."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from commonspace.cli import overrides_of
from commonspace.configuration import compose
from tests.slurm.jobs import PAIRS, ROOT, Cluster, stand_in

SCRIPTS = ("train.sbatch", "nodes.sbatch", "sweep.sbatch")


@pytest.fixture(scope="module")
def timed_job(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A job of the shortest limit, told 15 to 45 seconds after its start: in the background of the tests below."""
    folder = tmp_path_factory.mktemp("timed")
    python = stand_in(
        folder,
        """
        echo "start ${SLURM_RESTART_COUNT:-0}" >>started
        [[ "${SLURM_RESTART_COUNT:-0}" == 0 ]] || exit 0
        sleep 110
        """,
    )
    words = ["--time=1", "--cpus-per-task=1", "--signal=SIGUSR1@15", str(ROOT / "slurm/train.sbatch"), "experiment=x"]
    return cluster.submit(folder, *words, python=python), folder


def test_srun_reaches_both_nodes(cluster: Cluster, timed_job: tuple[str, Path]) -> None:
    done = cluster.run("srun", "-N2", "-n2", "-J", "nodes", "bash", "-c", "echo $SLURMD_NODENAME")
    assert sorted(done.stdout.split()) == ["n1", "n2"], done.stderr


@pytest.mark.parametrize(
    "script, nodes, cores, options",
    [
        ("train.sbatch", 1, 2, ["--ntasks-per-node=2"]),
        # its own 16 GPUs are more than this cluster has
        ("nodes.sbatch", 2, 1, ["--gpus-per-node=0", "--ntasks-per-node=2", "--cpus-per-task=1"]),
    ],
)
def test_every_device_has_a_process_and_all_meet(
    cluster: Cluster, tmp_path: Path, script: str, nodes: int, cores: int, options: list[str]
) -> None:
    said = "$SLURM_NODEID $SLURM_LOCALID $SLURM_NTASKS $MASTER_ADDR:$MASTER_PORT $OMP_NUM_THREADS $*"
    python = stand_in(tmp_path, f'echo "{said}" >>seen')
    job = cluster.submit(tmp_path, *options, str(ROOT / "slurm" / script), "experiment=x", "a b", python=python)
    cluster.wait(job)
    lines = [line.split(" ", 5) for line in (tmp_path / "seen").read_text().splitlines()]
    expected = [(str(node), str(local)) for node in range(nodes) for local in range(2)]
    assert sorted((node, local) for node, local, *_ in lines) == expected
    assert {line[2] for line in lines} == {str(2 * nodes)} and len({line[3] for line in lines}) == 1
    assert {line[4] for line in lines} == {str(cores)}, "threads of a process"
    assert {line[5] for line in lines} == {"-m commonspace.cli train experiment=x a b"}


def test_a_process_that_fails_ends_the_others_and_the_job(cluster: Cluster, tmp_path: Path) -> None:
    python = stand_in(tmp_path, "[[ $SLURM_PROCID == 1 ]] && exit 3; sleep 200")
    started = time.monotonic()
    job = cluster.submit(tmp_path, "--nodes=2", "--cpus-per-task=1", str(ROOT / "slurm/train.sbatch"), python=python)
    cluster.wait(job, seconds=60)
    assert time.monotonic() - started < 60
    assert cluster.state(job) == "FAILED"


def test_a_failing_command_fails_its_job(cluster: Cluster, tmp_path: Path) -> None:
    words = (str(ROOT / "slurm/train.sbatch"), "absent.jsonl")
    job = cluster.submit(tmp_path, "--cpus-per-task=1", *words, command="data build own")
    cluster.wait(job)
    assert "absent.jsonl" in (tmp_path / f"runs/slurm/commonspace-{job}.log").read_text()
    assert cluster.state(job) == "FAILED"


def test_an_array_runs_one_line_a_task(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    lines = ["# a comment", "", "pairs.jsonl name=one", "'pairs.jsonl' name=two"]
    (tmp_path / "sweep.txt").write_text("\n".join(lines) + "\n")
    words = ("--array=1-3%2", "--cpus-per-task=1", str(ROOT / "slurm/sweep.sbatch"), "sweep.txt")
    job = cluster.submit(tmp_path, *words, command="data build own")
    cluster.wait(job)
    logs = {n: (tmp_path / f"runs/slurm/commonspace-sweep-{job}-{n}.log").read_text() for n in (1, 2, 3)}
    for name in ("one", "two"):
        manifest = json.loads((tmp_path / f"data/{name}/manifest.json").read_text())
        assert manifest["name"] == name, logs
    assert "sweep.txt has no line 3" in logs[3]


@pytest.mark.parametrize("path", sorted((ROOT / "slurm/sweeps").glob("*.txt")), ids=lambda path: path.name)
def test_every_line_of_a_sweep_composes(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    names = [compose("train", overrides_of("train", line.split())).name for line in lines]
    assert len(set(names)) == len(lines), "two runs of a sweep would write one folder"
    assert f"--array=1-{len(lines)}" in path.read_text()


@pytest.mark.parametrize("name", [*SCRIPTS, "job.sh", "cluster.sh"])
def test_scripts_parse(name: str) -> None:
    assert subprocess.run(["bash", "-n", str(ROOT / "slurm" / name)], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_jobs_save_themselves_before_their_time_is_up(name: str) -> None:
    text = (ROOT / "slurm" / name).read_text()
    assert all(f"#SBATCH {option}" in text for option in ("--requeue", "--signal=SIGUSR1@", "--open-mode=append"))


def test_what_the_signal_ends_before_it_trains_is_put_back_into_the_queue(
    cluster: Cluster, timed_job: tuple[str, Path]
) -> None:
    job, folder = timed_job
    started = folder / "started"
    cluster.until(started.is_file, 60, "the job to start")
    cluster.start_again(job, seconds=120)
    cluster.wait(job)
    log = (folder / f"runs/slurm/commonspace-{job}.log").read_text()
    assert started.read_text().split("\n") == ["start 0", "start 1", ""], log
    assert cluster.state(job) == "COMPLETED", log
