"""Code and configs as they are now, kept for jobs that start later: what is edited meanwhile does not reach them.

A snapshot lies in a folder named by the hash of its files, so the same code is kept once. Commands run from it by
PYTHONPATH, with the environment's packages; `snapshot.json` says of which commit it is, and what differed from that.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from commonspace.commands import COMMANDS
from commonspace.configuration import config_folder
from commonspace.errors import ConfigError
from commonspace.tracking.state import SNAPSHOT, code_difference, code_state

_OWN = "commonspace"


@dataclass(frozen=True)
class Snapshot:
    """What would be kept below `parent`; `take` keeps it."""

    parent: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """{place in the snapshot: file}: the packages that commands name, configs, sbatch files and the lock."""
        return {f"{place}/{name}".lstrip("/"): file for place, name, file in _sources()}

    @cached_property
    def digest(self) -> str:
        """12 hex digits over names and bytes."""
        state = hashlib.sha256()
        for name, file in sorted(self.files.items()):
            state.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return state.hexdigest()[:12]

    @property
    def folder(self) -> Path:
        """Where it lies, or will."""
        return (self.parent / self.digest).absolute()

    @property
    def python_path(self) -> str:
        """PYTHONPATH of a process that runs it."""
        return os.pathsep.join([str(self.folder / "src"), str(self.folder)])

    def take(self) -> Path:
        """Write it, whole or not at all, unless it is there; returns its folder."""
        if self.folder.is_dir():
            return self.folder
        partial = self.folder.with_name(f".{self.digest}.{secrets.token_hex(4)}.partial")
        for name, file in self.files.items():
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        (partial / SNAPSHOT).write_text(json.dumps(_commit(), indent=1) + "\n")
        try:
            partial.rename(self.folder)
        except OSError:  # another process took the same one meanwhile
            shutil.rmtree(partial)
            if not self.folder.is_dir():
                raise
        return self.folder


def _commit() -> dict[str, object]:
    from commonspace.evaluation.results import current_commit

    return {**code_state(), "difference": code_difference(), "short": current_commit()}


def _sources() -> Iterator[tuple[str, str, Path]]:
    """(place, name within it, file) of everything that a job reads."""
    configs = config_folder()
    root = configs.parent
    if not (root / "slurm" / "job.sh").is_file():
        raise ConfigError(
            f"{root / 'slurm'}: has no sbatch files; reinstall commonspace, or run it from a whole checkout"
        )
    for package in sorted({command.target.partition(":")[0].partition(".")[0] for command in COMMANDS.values()}):
        place = f"src/{package}" if package == _OWN else package
        yield from ((place, name, file) for name, file in _files(_package(package)))
    yield from (("slurm", name, file) for name, file in _files(root / "slurm"))
    if root.name != _OWN:  # of an installed package they lie inside it, and are there already
        yield from (("configs", name, file) for name, file in _files(configs))
    for name in ("pyproject.toml", "requirements.lock"):
        if (root / name).is_file():
            yield "", name, root / name


def _package(name: str) -> Path:
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ConfigError(f"there is no package {name}; reinstall commonspace")
    return Path(found.origin).parent


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for file in folder.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file.relative_to(folder).as_posix(), file
