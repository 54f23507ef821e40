"""Where shards lie: a folder of this machine, or any place that fsspec reads (s3://, gs://, https://, memory:// ...).

A `RemoteFolder` answers what shard readers ask of a `Path`. What cannot be reached is asked for again, and then stops
the run: a sample that was left out because of the network would be there when the run is resumed, and the batches
would differ.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

from commonspace.errors import StorageError

_WAITS = (0.5, 1.0, 2.0, 4.0)  # seconds before asking again
Answer = TypeVar("Answer")


def place(where: str | Path | RemoteFolder) -> Path | RemoteFolder:
    """A path of this machine, or, for a URL, a `RemoteFolder`."""
    if isinstance(where, RemoteFolder):
        return where
    return RemoteFolder(str(where)) if is_remote(where) else Path(where)


def is_remote(where: str | Path) -> bool:
    """Whether it is a URL: "s3://bucket/data", "simplecache::https://host/data"."""
    return "://" in str(where)


class RemoteFolder:
    """A folder or a file below a URL. Pickles as the URL; each process opens connections of its own.

    Raises `FileNotFoundError` for what is not there, `StorageError` for what cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._opened: tuple[int, Any, str] | None = None

    def __truediv__(self, name: str) -> RemoteFolder:
        return RemoteFolder(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemoteFolder({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteFolder) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_opened": None}

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return PurePosixPath(self.url).name

    def exists(self) -> bool:
        """Whether there is anything of that name."""
        return self._asked(lambda system, path: system.exists(path))

    is_file = exists

    def read_bytes(self) -> bytes:
        """The whole file."""
        return self._asked(lambda system, path: system.cat_file(path))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole file as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The file, to be read from its beginning."""
        return self._asked(lambda system, path: system.open(path, mode))

    def sizes(self, names: Sequence[str]) -> list[int | None]:
        """Bytes of files in this folder, asked for at once; None where the server does not tell."""
        return self._asked(lambda system, path: list(system.sizes([f"{path}/{name}" for name in names])))

    def read_ranges(self, ranges: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """`size` bytes from `offset` on of files in this folder, for many (name, offset, size) at once."""

        def read(system: Any, path: str) -> list[bytes]:
            files = [f"{path}/{name}" for name, _, _ in ranges]
            starts, ends = [start for _, start, _ in ranges], [start + size for _, start, size in ranges]
            blocks = system.cat_ranges(files, starts, ends, on_error="return")
            if failed := [block for block in blocks if isinstance(block, BaseException)]:
                raise failed[0]
            return blocks

        blocks = self._asked(read)
        for block, (name, _, size) in zip(blocks, ranges, strict=True):
            if len(block) > size:
                raise StorageError(
                    f"{self / name}: the server sends the whole file where a part was asked for; take one that serves "
                    f"byte ranges, or put simplecache:: before the URL"
                )
        return blocks

    def _asked(self, question: Callable[[Any, str], Answer]) -> Answer:
        """The answer of the file system, asked again a few times where it cannot be reached."""
        for wait in (*_WAITS, None):
            try:
                return question(*self._system())
            except FileNotFoundError:
                raise
            except (ImportError, ValueError) as error:  # a protocol that is unknown, or whose package is missing
                raise StorageError(f"{self.url}: {error}") from error
            except Exception as error:  # each file system has errors of its own
                if wait is None:
                    raise StorageError(
                        f"{self.url}: cannot be reached, asked {len(_WAITS) + 1} times (the last: {error!r}); check "
                        "network and credentials and start again: the run goes on where it was"
                    ) from error
                time.sleep(wait)
        raise AssertionError

    def _system(self) -> tuple[Any, str]:
        """The file system and this URL's path in it; a worker that was forked must not use its parent's."""
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec

            self._opened = (os.getpid(), *fsspec.core.url_to_fs(self.url))
        return self._opened[1:]
