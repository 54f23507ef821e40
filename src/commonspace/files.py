"""Files that are there whole or not at all, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Another name beside `path` to write to; what was written takes the place of `path` when the block ends well.

    The folder is made. Of several processes that write at once, the last one's file stays. A block that fails leaves
    `path` as it was and nothing beside it; its error goes on, as does an OSError of the move.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A file of UTF-8 text, whole or not at all."""
    with replaced(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """A JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


class Readable(Protocol):
    """A path here or in remote storage."""

    def open(self, mode: str) -> IO:
        """Its bytes, for mode "rb"."""


def sha256_of(path: Readable) -> str:
    """Of a file's bytes, in hexadecimal; OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
