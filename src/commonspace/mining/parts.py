"""Long work in numbered parts, shared by any number of processes and gone on with after any of them died.

Every process that is started with the same options takes the parts that nobody has made or is making. A part is a file
that appears whole or not at all; who makes it holds a lock on one byte of the folder's lock file, and the kernel lets
go of that when the process ends, however it ends. There are no ranks and no sizes to agree on: a second machine may
join late, and a killed one is made up for. The folder must lie where all see it and where POSIX locks hold (NFS 4,
Lustre with flock, a local disk).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from commonspace.errors import DataError
from commonspace.files import replaced
from commonspace.locks import take_lock

VERSION = 1  # of what parts hold and how it is made: a change of rules raises it, and nothing old is read again
_PAUSE = 0.5  # seconds between two looks at what other processes are making


def job_folder(root: Path, kind: str, **decides: Any) -> Path:
    """`<root>/<kind>/<hash>` of all that decides what the parts in it hold; job.json there says what that was."""
    text = json.dumps({"version": VERSION, **decides}, sort_keys=True, indent=1, ensure_ascii=False)
    folder = root / kind / hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
    if not (folder / "job.json").exists():
        write_whole(folder / "job.json", lambda path: path.write_text(text + "\n"))
    return folder


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file under another name, then put it in its place; DataError where it cannot be written."""
    try:
        with replaced(path) as partial:
            write(partial)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be written ({error}); free space, or choose another folder") from error


def write_part(path: Path, arrays: Mapping[str, np.ndarray], notes: Sequence[str] = ()) -> None:
    """Arrays, and lines of text beside them, as one file."""
    packed = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    write_whole(path, lambda partial: save_file(packed, partial, metadata={"notes": json.dumps(list(notes))}))


def read_part(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Some arrays of a part, or all of them.

    A damaged file is taken away, so that the next call makes it again, and told by DataError.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in (names or file.keys())}
    except (OSError, SafetensorError) as error:
        path.unlink(missing_ok=True)
        raise DataError(f"{path}: was damaged ({error}) and is taken away; run the same command again") from error


def read_notes(path: Path) -> list[str]:
    """The lines of text of a part."""
    try:
        with safe_open(path, framework="numpy") as file:
            return json.loads((file.metadata() or {}).get("notes", "[]"))
    except (OSError, SafetensorError, ValueError) as error:
        path.unlink(missing_ok=True)
        raise DataError(f"{path}: was damaged ({error}) and is taken away; run the same command again") from error


def part_paths(folder: Path, parts: int) -> list[Path]:
    """Where the parts of a folder lie."""
    return [folder / f"{number:06}.safetensors" for number in range(parts)]


def make_parts(paths: Sequence[Path], make: Callable[[int], None], what: str = "", *, progress: bool = False) -> int:
    """Call `make(number)` for every path that is not there yet, and return once all are; how many were made here.

    `make` leaves the file at its path. An error of it is raised here; other processes go on with the rest.
    """
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    made = 0
    with Progress(console=Console(stderr=True), disable=not (progress and missing)) as bar:
        step = bar.add_task(what, total=len(paths), completed=len(paths) - len(missing))
        while missing:
            before = len(missing)
            for number in list(missing):
                if not paths[number].exists():
                    with claimed(paths[number].parent, number) as free:
                        if not free:
                            continue
                        if not paths[number].exists():
                            make(number)
                            made += 1
                missing.remove(number)
                bar.advance(step)
            if len(missing) == before:  # all that is left is being made elsewhere
                time.sleep(_PAUSE)
    for folder in {path.parent for path in paths}:
        for stray in folder.glob(".[0-9]*.partial"):  # of processes that were killed; nobody writes here any more
            stray.unlink(missing_ok=True)
    return made


@contextmanager
def claimed(folder: Path, number: int) -> Iterator[bool]:
    """Whether no other process makes this part of a folder now; while inside none does.

    Raises DataError where the folder's file system has no locks: all would wait for one another for ever.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "locks").open("a+b") as file:
        yield take_lock(file, "choose a folder on another file system with work=...", byte=number)
