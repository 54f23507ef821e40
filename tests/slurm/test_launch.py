"""`commonspace launch` on a real cluster: sweeps, searches and chains, from a snapshot of the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from commonspace.content import Content
from commonspace.launching.command import main
from commonspace.tracking.reader import read_runs
from tests.evaluation.made import record, write
from tests.models.tiny import tiny_embedder
from tests.slurm.jobs import PAIRS, Cluster
from tests.slurm.test_training import LAUNCHER, RUN, STEPS, losses, place  # noqa: F401 (a fixture)


@pytest.fixture
def folder(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place to submit from, with two pairs."""
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_CONF", "MASTER_ADDR"):
        monkeypatch.setenv(name, cluster.environment[name])
    (tmp_path / "pairs.jsonl").write_text(PAIRS)
    return tmp_path


def submitted(said: str) -> dict[str, str]:
    """{name: job} of what launch printed."""
    return {name: job for job, name in re.findall(r"^job (\d+): ([\w-]+)", said, re.MULTILINE)}


def test_a_chain_waits_for_its_links_and_ends_where_one_fails(
    cluster: Cluster, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two chains in one: bad -> never -> nor; good -> then."""
    steps = {
        "bad": ("absent.jsonl", []), "never": ("pairs.jsonl", ["bad"]), "nor": ("pairs.jsonl", ["never"]),
        "good": ("pairs.jsonl", []), "then": ("pairs.jsonl", ["good"]),
    }  # fmt: skip
    words = [f"only=[{','.join(steps)}]", "paths.runs=runs"]
    for name, (pairs, after) in steps.items():
        run = f"data build own {pairs} name={name}"
        words.append(f"+recipe.steps.{name}={{run: '{run}', after: [{','.join(after)}], outputs: ['data/{name}']}}")
    assert main(["--chain", "tiny", *words, *LAUNCHER]) == 0
    jobs = submitted(capsys.readouterr().out)
    assert list(jobs) == ["bad", "never", "nor", "good", "then"]
    cluster.wait(*jobs.values())
    states = {name: cluster.state(job) for name, job in jobs.items()}
    assert states == {
        "bad": "FAILED", "never": "CANCELLED", "nor": "CANCELLED", "good": "COMPLETED", "then": "COMPLETED",
    }  # fmt: skip
    made = {path.name: path.stat().st_mtime for path in (folder / "data").iterdir()}
    assert set(made) == {"good", "then"} and made["good"] < made["then"]


def test_a_sweep_file_runs_as_it_was_when_it_was_submitted(
    cluster: Cluster, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = folder / "sweep.txt"
    sweep.write_text("# two runs\npairs.jsonl name=one\n\npairs.jsonl name=two\n")
    assert main(["data", "build", "own", "--sweep", "sweep.txt", "paths.data=made", *LAUNCHER]) == 0
    sweep.write_text("pairs.jsonl name=three\n")
    jobs = submitted(capsys.readouterr().out)
    cluster.wait(*jobs.values())
    assert sorted(path.name for path in (folder / "made").iterdir()) == ["one", "two"]


def test_an_array_of_submitit_runs_the_snapshot(cluster: Cluster, folder: Path) -> None:
    done = launch(folder, "data", "build", "own", "pairs=pairs.jsonl", "name=a,b", *LAUNCHER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (folder / "data").iterdir()) == ["a", "b"]
    (snapshot,) = (folder / "runs/slurm/snapshots").iterdir()
    assert snapshot.name in done.stdout and json.loads((snapshot / "snapshot.json").read_text())["commit"]
    (script,) = folder.rglob("*_submission.sh")
    assert f"source {snapshot}/slurm/job.sh" in script.read_text() and "--signal=USR1@" in script.read_text()


def test_a_task_of_an_array_that_is_told_of_its_limit_goes_on_in_the_queues_next_turn(
    cluster: Cluster,
    folder: Path,
    place: Path,  # noqa: F811
) -> None:
    """Its neighbour is left alone, and who submitted the sweep waits for both."""
    paths = [f"paths.data={place / 'data'}", f"init={place / 'start'}"]
    own = [word for word in RUN if not word.startswith("stage.temperature")]
    swept = [
        "stage.temperature=0.1,0.2",
        "name=t_${stage.temperature}",
        f"stage.steps={STEPS}",
        "hydra.launcher.name=told",
    ]
    with launching(folder, *own, *paths, *swept, *LAUNCHER) as submitter:
        runs = [folder / f"runs/made/t_{temperature}" for temperature in ("0.1", "0.2")]
        cluster.until(lambda: all(run.is_dir() and len(losses(run)) > 3 for run in runs), 240, "both tasks to train")
        tasks = sorted(cluster.run("squeue", "-h", "-r", "-n", "told", "-o", "%i").stdout.split())
        cluster.run("scancel", "--signal=USR1", tasks[0])
        cluster.start_again(tasks[0])
        said, _ = submitter.communicate(timeout=240)
    assert submitter.returncode == 0 and len(tasks) == 2, said
    told, other = (read_runs(run)[0] for run in runs)
    assert [len(told.logs), len(other.logs)] == [2, 1], "attempts"
    assert told.history["train/loss"].count() == other.history["train/loss"].count() == STEPS
    assert sorted(path.name for path in (folder / "models/made").iterdir()) == ["t_0.1", "t_0.2"]


def test_a_job_that_fails_is_told_to_who_waits_for_the_array(cluster: Cluster, folder: Path) -> None:
    done = launch(folder, "data", "build", "own", "pairs=pairs.jsonl,absent.jsonl", "name=${pairs}", *LAUNCHER)
    assert done.returncode != 0 and "absent.jsonl" in done.stdout + done.stderr


def test_shares_of_mteb_are_jobs_of_one_array(cluster: Cluster, folder: Path) -> None:
    """Each measures its share of the suite's tasks, and what they leave together is the whole."""
    texts = ["the red fox runs", "a grey wolf sleeps", "one bird sings", "two fish swim"]
    for task in ("summary", "recipe"):
        rows = [
            record(f"k{n}", task, f"c{n}", Content(text), ("en", Content(f"{text} far away")))
            for n, text in enumerate(texts)
        ]
        write(folder / "data/mini", task, rows)
    tiny_embedder().save(folder / "model")
    asked = ["suite=heldout", "embedder=model", "data.features=false", "wandb=none", "output=measured"]
    done = launch(folder, "evaluate", "mteb", *asked, "shares=2", "share=0,1", *LAUNCHER)
    assert done.returncode == 0, done.stdout + done.stderr
    whole = json.loads((folder / "measured/heldout.summary.json").read_text())["benchmarks"]["heldout"]
    assert whole["tasks"] == whole["tasks_of_benchmark"] == len(whole["scores"]) == 2


def test_optuna_searches_over_the_cluster(cluster: Cluster, folder: Path, place: Path) -> None:  # noqa: F811
    paths = [f"paths.data={place / 'data'}", f"init={place / 'start'}"]
    search = ["launcher=slurm_search", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2"]
    swept = ["stage.temperature=interval(0.05,0.2)", "name=t_${stage.temperature}", "stage.steps=2", "logger=csv"]
    own = [word for word in RUN if not word.startswith("stage.temperature")]
    done = launch(folder, *own, *paths, *search, *swept, *LAUNCHER)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.rglob("optimization_results.yaml")
    best = OmegaConf.to_container(OmegaConf.load(found))
    assert 0.05 <= best["best_params"]["stage.temperature"] <= 0.2 and 0 < best["best_value"] <= 1
    models = [path.name for path in (folder / "models/made").iterdir()]
    assert len(models) == 2 and all(name.startswith("t_0.") for name in models)


def launch(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as hydra wants it."""
    with launching(folder, *words) as process:
        said, wrong = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, said, wrong)


def launching(folder: Path, *words: str) -> subprocess.Popen[str]:
    """As `launch`, while it waits for its jobs."""
    command = [sys.executable, "-m", "commonspace.cli", "launch", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
