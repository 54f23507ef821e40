"""`commonspace launch`: a run, a sweep or a recipe's chain of steps, submitted to SLURM from a snapshot of the code."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from commonspace.cli import overrides_of, split_command
from commonspace.commands import COMMANDS
from commonspace.configuration import compose
from commonspace.errors import CommonspaceError, ConfigError
from commonspace.launching.chain import chain_jobs
from commonspace.launching.jobs import OF_LAUNCHING, Job, composed, resources_of, without_launcher
from commonspace.launching.snapshot import Snapshot
from commonspace.launching.sweep import keep_sweep, sweep_job
from commonspace.multirun import check_multirun, is_swept, jobs, swept

_EPILOG = """
COMMAND is train unless it is named. Resources are options of the launcher group, as hydra.launcher.timeout_min=60;
values with commas, or a family of ablation=FAMILY, make a sweep, which submitit submits as one array and waits for.
docs/slurm.md has the rest.
"""


def main(arguments: Sequence[str]) -> int:
    """Submit, or with --dry-run only say what would be submitted and what it costs at most."""
    parser = argparse.ArgumentParser(
        "commonspace launch", description="Submit a command to SLURM.", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("words", nargs="*", metavar="WORD", help="[COMMAND] key=value ... as after `commonspace`")
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--sweep", metavar="FILE", help="a text file, one run's overrides a line: an array of jobs")
    several.add_argument("--chain", metavar="RECIPE", help="the steps of a recipe, each after those that it needs")
    parser.add_argument("--dry-run", action="store_true", help="submit and write nothing, print what would be")
    options = parser.parse_intermixed_args(list(arguments))
    words = list(options.words)
    if not any(word.startswith(OF_LAUNCHING[0]) for word in words):
        words.append("launcher=slurm")
    name, rest = split_command(words) if words[0] in {first.split()[0] for first in COMMANDS} else ("train", words)
    if name not in COMMANDS:
        raise ConfigError(f"launch: there is no command {name!r}; see commonspace --help")
    if options.chain:
        return _chain(options.chain, words, options.dry_run)
    overrides = overrides_of(name, rest)
    if options.sweep:
        return _sweep(name, Path(options.sweep), overrides, options.dry_run)
    sweeps = is_swept([*swept(COMMANDS[name].root, overrides), *overrides])
    return (_multirun if sweeps else _single)(name, overrides, options.dry_run)


def _single(name: str, overrides: Sequence[str], dry_run: bool) -> int:
    config = composed(COMMANDS[name], overrides)
    resources, extra = resources_of(config)
    title = str(config.get("name") or name).replace(" ", "-")
    job = Job(title, name, (*without_launcher(overrides), *extra), resources)
    return _submit([job], Path(config.paths.runs) / "slurm", dry_run)


def _chain(recipe: str, words: Sequence[str], dry_run: bool) -> int:
    own = without_launcher(words)
    runs = compose("recipe", [f"recipe={recipe}", *own]).paths.runs
    launcher = [word for word in words if word not in own]
    return _submit(chain_jobs(recipe, own, launcher), Path(runs) / "slurm", dry_run)


def _sweep(name: str, file: Path, overrides: Sequence[str], dry_run: bool) -> int:
    folder = Path(compose(COMMANDS[name].root, without_launcher(overrides), check=False).paths.runs) / "slurm"
    job = sweep_job(name, file, overrides, folder / "sweeps")
    if not dry_run:
        keep_sweep(job, file)
    return _submit([job], folder, dry_run)


def _multirun(name: str, overrides: Sequence[str], dry_run: bool) -> int:
    """Hydra's own sweep, in the snapshot: a sweeper makes the jobs, submitit submits them and waits for results."""
    command = COMMANDS[name]
    check_multirun(command, ["-m", *overrides])
    runs = jobs([*swept(command.root, overrides), *overrides])
    config = composed(command, runs[0] if runs else [word for word in overrides if not is_swept([word])])
    if not runs and "n_trials" not in config.hydra.sweeper:
        raise ConfigError("a range is drawn from by a sweeper that can; use launcher=slurm_search, or give its values")
    count = int(config.hydra.sweeper.get("n_trials") or len(runs))
    resources, extra = resources_of(config)
    snapshot = Snapshot(Path(config.paths.runs) / "slurm" / "snapshots")
    needs = {"nodes": resources.nodes, "tasks_per_node": resources.processes, "gpus_per_node": resources.gpus or "null"}
    words = [*overrides, *extra, *(f"hydra.launcher.{key}={value}" for key, value in needs.items())]
    words.append(f"hydra.launcher.setup=['source {snapshot.folder}/slurm/job.sh']")
    line = [sys.executable, "-m", "commonspace.cli", *name.split(), *words, "-m"]
    for number, run in enumerate(runs if count == len(runs) else ()):  # a sweeper that searches makes its own
        print(f"run {number}: {' '.join(word for word in without_launcher(run) if word not in overrides)}")
    _say(snapshot, [(resources, count)], [_shell({"PYTHONPATH": snapshot.python_path}, line)], dry_run)
    if dry_run:
        return 0
    snapshot.take()
    environment = {**os.environ, "PYTHONPATH": snapshot.python_path, "COMMONSPACE_HOME": str(snapshot.folder)}
    return subprocess.run(line, env={**environment, "COMMONSPACE_PYTHON": sys.executable}).returncode


def _submit(made: Sequence[Job], folder: Path, dry_run: bool) -> int:
    """Hand jobs to sbatch, those that others wait for first; where one is refused, those before it are taken back."""
    snapshot, logs = Snapshot(folder / "snapshots"), folder.absolute()
    shared = {"COMMONSPACE_HOME": str(snapshot.folder), "COMMONSPACE_PYTHON": sys.executable}
    numbers = {job.name: f"<{job.name}>" for job in made}
    lines = [
        _shell({**shared, "COMMONSPACE_COMMAND": job.command}, job.words(snapshot.folder, logs, numbers))
        for job in made
    ]
    _say(snapshot, [(job.resources, job.runs) for job in made], lines if dry_run else [], dry_run)
    if dry_run:
        return 0
    snapshot.take()
    given: dict[str, str] = {}
    for job in made:
        environment = {**os.environ, **shared, "COMMONSPACE_COMMAND": job.command}
        try:
            given[job.name] = _sbatch(job.words(snapshot.folder, logs, given), environment)
        except CommonspaceError:
            if given:
                subprocess.run(["scancel", *given.values()], check=False)
            raise
        waits = f", after {', '.join(job.after)}" if job.after else ""
        print(f"job {given[job.name]}: {job.name}{waits}; {job.resources.said()}")
    return 0


def _sbatch(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """The number of the submitted job; ConfigError says why there is none."""
    try:
        done = subprocess.run(words, env=dict(environment), capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ConfigError(
            "sbatch: not found; submit from a login node of a SLURM cluster, or look with --dry-run"
        ) from error
    if done.returncode:
        raise ConfigError(f"sbatch refused the job ({done.stderr.strip()}); the line was {shlex.join(words)}")
    return done.stdout.strip().partition(";")[0]


def _say(snapshot: Snapshot, parts: Sequence[tuple], lines: Sequence[str], dry_run: bool) -> None:
    """What is submitted, from which code, and its cost at most: every job running to its time limit."""
    for line in lines:
        print(line)
    cores = sum(resources.core_hours * count for resources, count in parts)
    gpus = sum(resources.gpu_hours * count for resources, count in parts)
    count = sum(count for _, count in parts)
    if dry_run:
        for said in dict.fromkeys(resources.said() for resources, _ in parts):
            print(f"each job: {said}")
    verb = "would be submitted" if dry_run else "submitted"
    print(f"{count} {'job' if count == 1 else 'jobs'} {verb} from the code in {snapshot.folder}")
    print(f"cost: at most {cores:.1f} core-hours, {gpus:.1f} GPU-hours, where every job runs to its time limit")


def _shell(variables: Mapping[str, str], words: Sequence[str]) -> str:
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(words)])
