"""Shards copied to a disk of this node before training reads them: shared storage then serves each node once.

The copy lies in a folder named by what the shards say of themselves, so it is used again by later jobs on the node, and
never by one whose shards differ. Processes that start together wait for the first; a copy that was cut short goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from commonspace.errors import DataError, StorageError

_SPLITS = ("train", "dev")
_BESIDE = ("manifest.json",)  # of a tier, read beside its tasks
_SPARE = 1.05  # of the size asked for, free before copying begins


def stage_shards(data: Path, tier: str, tasks: Sequence[str], local: Path) -> Path:
    """Copy the train and dev shards of `tasks` below `local`; returns the folder to read in place of `data`.

    Safe to call from every process of a node. Raises DataError for a task without shards, StorageError where `local`
    cannot be written or lacks the space.
    """
    files = list(_files(data / tier, tasks))
    staged = local / f"commonspace-{_digest(data / tier, tasks)}"
    try:
        staged.mkdir(parents=True, exist_ok=True)
        with (staged / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back with the file, also by a process that is killed
            missing = [(size, name) for size, name in files if not _is_there(staged / tier / name, size)]
            _check_space(local, sum(size for size, _ in missing))
            _copy(data / tier, staged / tier, [name for _, name in missing])
    except OSError as error:
        raise StorageError(
            f"{error.filename or staged}: cannot be written ({error.strerror}); give paths.local a folder on this "
            "node's own disk, or leave it out"
        ) from error
    return staged


def _files(root: Path, tasks: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(bytes, name below the tier) of what is copied; a split's description comes after its shards."""
    for name in _BESIDE:
        if (root / name).is_file():
            yield (root / name).stat().st_size, name
    for task in tasks:
        for split in _SPLITS:
            described = root / task / f"{split}.json"
            if not described.is_file():
                if split == _SPLITS[0]:
                    raise DataError(f"{described}: no such split; build it with `commonspace data build`")
                continue
            shards = [shard["file"] for shard in json.loads(described.read_text())["shards"]]
            for name in (*shards, f"{split}.parquet", described.name):
                yield (root / task / name).stat().st_size, f"{task}/{name}"


def _digest(root: Path, tasks: Sequence[str]) -> str:
    """Of the tasks' descriptions, which hold the hashes of their other files."""
    state = hashlib.sha256()
    for task in sorted(tasks):
        for file in (root / task / f"{split}.json" for split in _SPLITS):
            state.update(f"{task}\0".encode() + (file.read_bytes() if file.is_file() else b"-"))
    return state.hexdigest()[:12]


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _check_space(local: Path, needed: int) -> None:
    free = shutil.disk_usage(local).free
    if needed * _SPARE > free:
        raise StorageError(
            f"{local}: {free / 1e9:.1f} GB free, and the shards take {needed / 1e9:.1f} GB; clear it, or leave "
            "paths.local out"
        )


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    from rich.progress import track

    for name in track(names, description=f"copying shards to {target}", disable=not names):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        shutil.copyfile(source / name, partial)
        os.replace(partial, path)
