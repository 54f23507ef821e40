"""A tier is built by one process at a time: two would write the same half-made folder, and publish it half written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from commonspace.errors import DataError
from commonspace.locks import take_lock


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a tier's folder to this process while it is built or replaced.

    It is held by a lock on a file beside it, which the kernel gives back when the process ends, however it ends.

    Raises:
        DataError: another process builds it; its place cannot be written, or has no locks (Lustre without flock).
    """
    path = folder.with_name(f".{folder.name}-lock")
    with _locked(path, folder):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held, so that nobody takes the lock of a file that goes away


def _locked(path: Path, folder: Path) -> IO:
    """The file, open and locked; opened anew where who had it took it away in between."""
    while True:
        file = _opened(path)
        try:
            if not take_lock(
                file, "build on another file system, with another paths.data, and copy the tier to its place"
            ):
                raise DataError(
                    f"{folder}: another process builds the tier {folder.name}; wait until it ends, or choose another "
                    "name"
                )
            if _is_there(path, file):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _opened(path: Path) -> IO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); choose another paths.data") from error


def _is_there(path: Path, file: IO) -> bool:
    """Whether a file is the one of that name still: who had it before may have taken it away after it was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
