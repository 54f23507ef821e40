"""A sweep as a text file, one run's overrides a line: read, looked at whole, kept for the jobs that will read it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from commonspace.cli import overrides_of
from commonspace.commands import COMMANDS
from commonspace.errors import ConfigError
from commonspace.launching.jobs import Job, composed, resources_of, without_launcher
from commonspace.multirun import place_of


def sweep_job(name: str, file: Path, overrides: Sequence[str], folder: Path) -> Job:
    """An array whose task N runs line N of `file` as it is now, with `overrides` after the line's own.

    The lines are kept below `folder` (see `keep_sweep`), where the job finds them whatever becomes of `file`. Raises
    ConfigError naming the line that does not compose, leaves its work where another does, or needs other resources.
    """
    lines, command, places = read_sweep(file), COMMANDS[name], {}
    made = []
    for number, line in enumerate(lines, start=1):
        try:
            config = composed(command, [*overrides_of(name, shlex.split(line)), *overrides])
            made.append(resources_of(config))
        except (ConfigError, ValueError) as error:  # of shlex: a quote that is not closed
            raise ConfigError(f"{file}: run {number}, {line!r}: {error}") from error
        if (place := place_of(command, config)) in places and command.leaves:
            where = " ".join(str(part) for part in place if part is not None)
            raise ConfigError(f"{file}: runs {places[place]} and {number} would both write {where}; give each a name=")
        places[place] = number
        if made[-1] != made[0]:
            raise ConfigError(f"{file}: run {number} needs other nodes or processes than run 1; split the file")
    resources, extra = made[0]
    kept = folder / f"{file.stem}-{hashlib.sha256(_text(lines).encode()).hexdigest()[:12]}.txt"
    words = (str(kept.absolute()), *without_launcher(overrides), *extra)
    return Job(file.stem, name, words, resources, (), len(lines), config.hydra.launcher.array_parallelism)


def read_sweep(file: Path) -> list[str]:
    """Lines that are runs; empty ones and those that begin with # are none. ConfigError where there is no run."""
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}); give a text file of overrides") from error
    if not (runs := [line for line in lines if line and not line.startswith("#")]):
        raise ConfigError(f"{file}: holds no run; write the overrides of one on a line")
    return runs


def keep_sweep(job: Job, file: Path) -> None:
    """Write the lines that a `sweep_job` will read."""
    kept = Path(job.overrides[0])
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(_text(read_sweep(file)))


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
