"""Bytes of records out of the tars of one split, near or far: by one seek in an open file, or by byte ranges."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from commonspace.data.storage import RemoteFolder
from commonspace.errors import StorageError

_OPEN_FILES = 64  # per reader and process
Range = tuple[str, int, int]  # name of a tar, offset and size in bytes


class LocalTars:
    """Tars in a folder of this machine; the ones read last stay open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: OrderedDict[str, io.FileIO] = OrderedDict()

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Bytes of each tar, None where there is none."""
        paths = [self.folder / name for name in names]
        return [path.stat().st_size if path.is_file() else None for path in paths]

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Nothing: here one read costs no more than its share of many."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of one tar, fewer where it ends before; StorageError where it cannot be read at all."""
        try:
            return os.pread(self._open(name).fileno(), size, offset)
        except OSError as error:
            raise StorageError(
                f"{self.folder / name}: cannot be read ({error.strerror}); is its disk there?"
            ) from error

    def _open(self, name: str) -> io.FileIO:
        if name in self._files:
            self._files.move_to_end(name)
        else:
            self._files[name] = io.FileIO(self.folder / name)
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)[1].close()
        return self._files[name]


class RemoteTars:
    """Tars below a URL; what is fetched ahead is kept until it is read or other ranges are fetched."""

    def __init__(self, folder: RemoteFolder) -> None:
        self.folder = folder
        self._fetched: dict[Range, bytes] = {}

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Bytes of each tar, None where there is none; -1 where the server does not tell."""
        try:
            return [-1 if size is None else size for size in self.folder.sizes(names)]
        except FileNotFoundError:
            return [-1 if (self.folder / name).exists() else None for name in names]

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Bring many ranges here at once, for `read` to take: the wait for a server is paid once."""
        ranges = list(ranges)
        self._fetched = dict(zip(ranges, self._ask(ranges), strict=True)) if ranges else {}

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes of one tar, fewer where it ends before; StorageError where it cannot be reached."""
        place = (name, offset, size)
        return self._fetched.pop(place) if place in self._fetched else self._ask([place])[0]

    def _ask(self, ranges: Sequence[Range]) -> list[bytes]:
        try:
            return self.folder.read_ranges(ranges)
        except FileNotFoundError as error:
            raise StorageError(f"{self.folder}: a tar is gone ({error}); copy the split again") from error


def tars_of(folder: Path | RemoteFolder) -> LocalTars | RemoteTars:
    """What reads the tars of a folder."""
    return RemoteTars(folder) if isinstance(folder, RemoteFolder) else LocalTars(folder)
