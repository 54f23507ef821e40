"""Locks on files: what another process holds is told apart from a file system that has no locks at all."""

from __future__ import annotations

import errno
import fcntl
from typing import IO

from commonspace.errors import DataError


def take_lock(file: IO, instead: str, *, byte: int | None = None, wait: bool = False) -> bool:
    """Take an exclusive lock on an open file, or on one byte of it; False where another process has it.

    With `wait` it is waited for. The kernel gives it back when the file is closed or its process ends, however it ends.
    Raises DataError where files cannot be locked (Lustre without flock, say), with what to do `instead`.
    """
    how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
    try:
        if byte is None:
            fcntl.flock(file, how)
        else:
            fcntl.lockf(file, how, 1, byte)
    except OSError as error:
        if not wait and error.errno in (errno.EACCES, errno.EAGAIN):  # the one or the other, as the system has it
            return False
        raise DataError(f"{file.name}: cannot be locked ({error.strerror or error}); {instead}") from error
    return True
