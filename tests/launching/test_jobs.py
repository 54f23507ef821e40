"""What a job occupies follows from trainer and launcher, and what they contradict one another in is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.commands import COMMANDS
from commonspace.errors import ConfigError
from commonspace.launching.jobs import Job, Resources, composed, resources_of, without_launcher

DDP = ["trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2"]


def resources(*words: str, command: str = "train") -> tuple[Resources, tuple[str, ...]]:
    launcher = [] if any(word.startswith("launcher=") for word in words) else ["launcher=slurm"]
    return resources_of(composed(COMMANDS[command], [*launcher, *words]))


@pytest.mark.parametrize(
    "words, nodes, processes, gpus, extra",
    [
        ([], 1, 1, 0, ()),
        (DDP, 2, 4, 0, ()),
        ([*DDP, "trainer.accelerator=gpu"], 2, 4, 4, ()),
        ([*DDP, "hydra.launcher.gpus_per_node=4"], 2, 4, 4, ()),
        ([*DDP, "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=4"], 2, 4, 0, ()),
        (["trainer=fsdp", "hydra.launcher.gpus_per_node=8"], 1, 8, 8, ("trainer.devices=8",)),
    ],
)
def test_one_process_a_device(words: list[str], nodes: int, processes: int, gpus: int, extra: tuple[str, ...]) -> None:
    made, more = resources(*words)
    assert (made.nodes, made.processes, made.gpus, more) == (nodes, processes, gpus, extra)


@pytest.mark.parametrize(
    "words, message",
    [
        (["hydra.launcher.nodes=3"], "hydra.launcher.nodes=3: .* trainer.num_nodes=1; leave it out"),
        ([*DDP, "hydra.launcher.tasks_per_node=8"], "hydra.launcher.tasks_per_node=8: .* trainer.devices=4"),
        (["hydra.launcher.gpus_per_node=8"], "gpus_per_node=8: one process a GPU, and trainer.devices=1"),
        (["trainer=fsdp"], "trainer.devices=auto: say how many"),
        (["trainer.devices=2", "trainer.strategy=auto"], "trainer.strategy: auto with several processes"),
        (["launcher=local"], "launcher: has no time limit"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_before_anything_is_submitted(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resources(*words)


def test_a_command_without_a_trainer_has_the_launchers_own() -> None:
    made, extra = resources("embedder=chance", "hydra.launcher.tasks_per_node=2", command="evaluate")
    assert (made.nodes, made.processes, extra) == (1, 2, ())


def test_what_it_costs_and_what_sbatch_is_told() -> None:
    words = ["hydra.launcher.timeout_min=90", "hydra.launcher.cpus_per_task=6", "hydra.launcher.mem_gb=64"]
    more = ["hydra.launcher.partition=long", "+hydra.launcher.additional_parameters.mail-type=FAIL"]
    made, _ = resources(*DDP, "trainer.accelerator=gpu", *words, *more)
    assert made.core_hours == 2 * 4 * 6 * 1.5 and made.gpu_hours == 2 * 4 * 1.5
    assert made.said() == "2 nodes x 4 processes x 6 cores, 4 GPUs a node, 1:30 h at most"
    assert made.words() == [
        "--nodes=2", "--ntasks-per-node=4", "--cpus-per-task=6", "--time=90", "--signal=SIGUSR1@120",
        "--gpus-per-node=4", "--partition=long", "--mem=64G", "--requeue", "--mail-type=FAIL",
    ]  # fmt: skip


def test_a_job_waits_for_those_it_names_and_leaves_with_them() -> None:
    job = Job("soup", "soup", ("experiment=mini/soup",), Resources(), after=("base", "warm"))
    words = job.words(Path("/home"), Path("/logs"), {"base": "7", "warm": "9"})
    assert "--dependency=afterok:7:9" in words and "--kill-on-invalid-dep=yes" in words
    assert words[-2:] == ["/home/slurm/train.sbatch", "experiment=mini/soup"]


def test_a_jobs_own_command_does_not_repeat_how_it_was_launched() -> None:
    words = [
        "seed=1",
        "launcher=slurm",
        "hydra.launcher.timeout_min=5",
        "+hydra.launcher.setup=[x]",
        "hydra/launcher=y",
    ]
    assert without_launcher(words) == ["seed=1"]
