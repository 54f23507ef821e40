"""Trainings as jobs: told of their limit they save, requeue and go on at the next batch; on two nodes as on one."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commonspace.launching.command import main
from commonspace.stages.train import train
from commonspace.tracking.reader import read_runs
from tests.slurm.jobs import Cluster
from tests.stages.training import MODEL, settings, start_model, write_pairs

STEPS, SHORT = 150, 6
RUN = [
    "data=pretrain", "data.tier=made", "data.workers=0", "stage.token_budget=null",
    "data.tasks.image_caption.batch_size=8", "data.tasks.summary={batch_size: 8, rate: 2.0}",
    *(f"data.tasks.{name}.rate=0" for name in ("stamp_language", "emoji_language", "crosslingual", "recipe", "code")),
    "stage.temperature=0.1", "stage.dev_every=0.0", "callbacks.checkpoint_every=1.0", *MODEL,
]  # fmt: skip
LAUNCHER = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and a model to start from."""
    folder = tmp_path_factory.mktemp("training")
    write_pairs(folder / "data/made")
    start_model(folder / "start")
    return folder


@pytest.fixture(scope="module")
def submitted(cluster: Cluster, place: Path) -> Iterator[dict[str, str]]:
    """Both trainings at once: {name: job}."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name in ("SLURM_CONF", "MASTER_ADDR"):
            patch.setenv(name, cluster.environment[name])
        patch.setenv("WANDB_SERVICE", "of a session that logs")  # as a notebook's, which no job may join
        jobs = {}
        local = f"paths.local={place / 'node'}"
        for name, steps, more in (
            ("one", STEPS, [local]),
            ("two", SHORT, ["trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2", "logger=csv"]),
        ):
            words = [*RUN, "init=start", f"stage.steps={steps}", f"name={name}", *more, *LAUNCHER]
            assert main(words) == 0
            queue = cluster.run("squeue", "-h", "-o", "%i", "-n", name).stdout
            jobs[name] = queue.strip()
        yield jobs


def reference(place: Path, folder: Path, steps: int) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The same run in this process without interruption: its weights and its losses."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the jobs, whose sums are then the same to the last bit
    try:
        (folder / "data").symlink_to(place / "data")
        words = [*RUN, f"init={place / 'start'}", f"stage.steps={steps}", "name=reference", "logger=csv"]
        train(settings(folder, *words))
    finally:
        torch.set_num_threads(threads)
    return load_file(folder / "models/made/reference/model.safetensors"), losses(folder)


def losses(folder: Path) -> list[str]:
    """Losses by step as logged, of every attempt at a run; of a step that two attempts logged, the later one's."""
    files = sorted(folder.rglob("metrics.csv"), key=lambda path: int(path.parent.name.removeprefix("version_")))
    rows = [row for file in files for row in csv.DictReader(file.open()) if row.get("train/loss")]
    return [value for _, value in sorted({int(row["step"]): row["train/loss"] for row in rows}.items())]


def test_a_run_that_was_told_of_its_limit_goes_on_at_the_next_batch(
    cluster: Cluster, place: Path, submitted: dict[str, str], tmp_path: Path
) -> None:
    job, runs = submitted["one"], place / "runs/made/one"
    cluster.until(lambda: runs.is_dir() and len(losses(runs)) > 3, 240, "the run to train")
    cluster.run("scancel", "--signal=USR1", job)
    cluster.start_again(job)
    (state,) = runs.rglob("step=*.ckpt")
    stopped = torch.load(state, weights_only=True)["global_step"]
    assert 3 < stopped < STEPS
    weights, expected = reference(place, tmp_path, STEPS)
    cluster.wait(job)
    log = (place / f"runs/slurm/one-{job}.log").read_text()
    assert cluster.state(job) == "COMPLETED", log
    saved = load_file(place / "models/made/one/model.safetensors")
    assert losses(runs) == expected, log
    assert saved.keys() == weights.keys() and all(torch.equal(saved[name], weights[name]) for name in weights)
    (run,) = read_runs(runs)
    assert len(run.logs) == 2 and run.run_id.endswith(f"-{job}"), "one run of W&B in two attempts"
    assert run.history["train/loss"].count() == STEPS
    assert Path(run.config["paths"]["local"]) == place / "node" and any((place / "node").glob("*/made/summary/*.tar"))


def test_two_nodes_train_as_one_process(
    cluster: Cluster, place: Path, submitted: dict[str, str], tmp_path: Path
) -> None:
    weights, _ = reference(place, tmp_path, SHORT)
    cluster.wait(submitted["two"])
    log = (place / f"runs/slurm/two-{submitted['two']}.log").read_text()
    assert cluster.state(submitted["two"]) == "COMPLETED", log
    saved = load_file(place / "models/made/two/model.safetensors")
    start = load_file(place / "start/model.safetensors")
    moved = sum(float((saved[name] - start[name]).double().square().sum()) for name in weights) ** 0.5
    apart = sum(float((saved[name] - weights[name]).double().square().sum()) for name in weights) ** 0.5
    assert moved > 1e-2 and apart < 0.02 * moved, (moved, apart)
