"""What a job of SLURM is: a command, the nodes and processes it gets, and the jobs it waits for.

Resources are those of the `launcher` group (hydra.launcher.*), whose names are submitit's; how many processes a
training has is the trainer's to say, one process a device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from commonspace.commands import Command
from commonspace.configuration import check_config, compose
from commonspace.errors import ConfigError

# Options of hydra.launcher that sbatch has by (almost) the same name.
_SAME = ("partition", "qos", "account", "constraint", "exclude", "gres", "comment", "mem_per_cpu", "mem_per_gpu")
OF_LAUNCHING = ("launcher=", "hydra.launcher.", "hydra/launcher=")


@dataclass(frozen=True)
class Resources:
    """What one job occupies. minutes is its time limit; `options` are further ones of sbatch, {"partition": "gpu"}."""

    nodes: int = 1
    processes: int = 1  # on each node
    cores: int = 1  # of each process
    gpus: int = 0  # on each node
    minutes: int = 60
    signal_seconds: int = 120
    options: Mapping[str, Any] = field(default_factory=dict)

    def words(self) -> list[str]:
        """Options of sbatch."""
        words = [
            f"--nodes={self.nodes}",
            f"--ntasks-per-node={self.processes}",
            f"--cpus-per-task={self.cores}",
            f"--time={self.minutes}",
            f"--signal=SIGUSR1@{self.signal_seconds}",
        ]
        if self.gpus:
            words.append(f"--gpus-per-node={self.gpus}")
        return words + [_option(key.replace("_", "-"), value) for key, value in self.options.items()]

    def said(self) -> str:
        """In words, for people."""
        gpus = f", {self.gpus} GPUs a node" if self.gpus else ""
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{nodes} x {processes} x {self.cores} cores{gpus}, {_hours(self.minutes)} at most"

    @property
    def core_hours(self) -> float:
        """Hours of cores, if it runs to its limit."""
        return self.nodes * self.processes * self.cores * self.minutes / 60

    @property
    def gpu_hours(self) -> float:
        """Hours of GPUs, if it runs to its limit."""
        return self.nodes * self.gpus * self.minutes / 60


@dataclass(frozen=True)
class Job:
    """One submission. command is "train"; `array` runs, at most `at_once` at a time, are lines of a sweep's file.

    after   names of jobs that must have ended well
    """

    name: str
    command: str
    overrides: tuple[str, ...]
    resources: Resources
    after: tuple[str, ...] = ()
    array: int = 0
    at_once: int = 1

    def words(self, home: Path, logs: Path, numbers: Mapping[str, str]) -> list[str]:
        """The command line that submits it; `numbers` are those of the jobs it waits for."""
        place = "%A-%a" if self.array else "%j"
        words = ["sbatch", "--parsable", f"--job-name={self.name}", f"--output={logs}/%x-{place}.log"]
        words += [*self.resources.words(), "--open-mode=append"]
        if self.array:
            words.append(f"--array=1-{self.array}%{self.at_once}")
        if self.after:  # what waits for a job that failed leaves the queue, and what waits for that too
            words += [f"--dependency=afterok:{':'.join(numbers[name] for name in self.after)}"]
            words += ["--kill-on-invalid-dep=yes"]
        script = "sweep.sbatch" if self.array else "train.sbatch"
        return [*words, str(home / "slurm" / script), *self.overrides]

    @property
    def runs(self) -> int:
        """How many jobs SLURM makes of it."""
        return self.array or 1


def composed(command: Command, overrides: Sequence[str]) -> DictConfig:
    """The checked config of a command with hydra's own node; ConfigError where it is wrong, or SLURM has no part."""
    config = compose(command.root, overrides, check=False, with_hydra=True)
    if "timeout_min" not in config.hydra.launcher:
        raise ConfigError("launcher: has no time limit to submit a job with; use launcher=slurm, or one built on it")
    check_config(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]), command.root)
    return config


def resources_of(config: DictConfig) -> tuple[Resources, tuple[str, ...]]:
    """What a job of this config occupies, and the overrides that it needs for that beside its own.

    Raises ConfigError where launcher and trainer contradict one another.
    """
    launcher = OmegaConf.to_container(config.hydra.launcher, resolve=False)
    trainer = OmegaConf.to_container(config.trainer, resolve=True) if "devices" in config.get("trainer", {}) else None
    nodes, processes, gpus, extra = _processes(launcher, trainer)
    options = {name: launcher[name] for name in _SAME if launcher.get(name) is not None}
    if launcher.get("mem_gb") is not None:
        options["mem"] = f"{launcher['mem_gb']}G"
    made = Resources(
        nodes=nodes,
        processes=processes,
        cores=launcher.get("cpus_per_task") or 1,
        gpus=gpus,
        minutes=launcher["timeout_min"],
        signal_seconds=launcher["signal_delay_s"],
        options={**options, **(launcher.get("additional_parameters") or {})},
    )
    return made, extra


def _processes(launcher: Mapping[str, Any], trainer: Mapping[str, Any] | None) -> tuple[int, int, int, tuple[str, ...]]:
    """(nodes, processes a node, GPUs a node, overrides): one process a device."""
    gpus = launcher.get("gpus_per_node") or 0
    if trainer is None:
        return launcher["nodes"], launcher["tasks_per_node"], gpus, ()
    for option, own, theirs in (
        ("nodes", launcher["nodes"], trainer["num_nodes"]),
        ("tasks_per_node", launcher["tasks_per_node"], trainer["devices"]),
    ):
        if own not in (1, theirs):
            key = "num_nodes" if option == "nodes" else "devices"
            raise ConfigError(
                f"hydra.launcher.{option}={own}: one process a device, and trainer.{key}={theirs}; leave it out"
            )
    devices = trainer["devices"]
    if devices == "auto":
        if not gpus:
            raise ConfigError("trainer.devices=auto: say how many a node has by hydra.launcher.gpus_per_node")
        return trainer["num_nodes"], gpus, gpus, (f"trainer.devices={gpus}",)
    if not isinstance(devices, int):
        raise ConfigError(f"trainer.devices={devices}: give their number; a job cannot choose among a node's devices")
    if trainer["accelerator"] == "gpu":
        gpus = gpus or devices
    if gpus and gpus != devices:
        raise ConfigError(f"hydra.launcher.gpus_per_node={gpus}: one process a GPU, and trainer.devices={devices}")
    return trainer["num_nodes"], devices, gpus, ()


def without_launcher(words: Sequence[str]) -> list[str]:
    """Overrides of a job itself: what says how to launch it is left out."""
    return [word for word in words if not word.lstrip("+").startswith(OF_LAUNCHING)]


def _option(name: str, value: Any) -> str:
    return f"--{name}" if value is True else f"--{name}={value}"


def _hours(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02} h"
