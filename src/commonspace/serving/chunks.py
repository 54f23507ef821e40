"""Finished chunks of a long embedding, kept beside the output: a call that is cut short is gone on with, not repeated.

A chunk is found again by a hash of everything that decides its vectors; one of other lines, options or weights is made
anew, and nobody has to say whether a folder of chunks still fits.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from commonspace.errors import DataError
from commonspace.serving.entries import Entry


@dataclass(frozen=True)
class Failure:
    """An entry without a vector: its line, its key, and why."""

    line: int
    key: str
    error: str


@dataclass(frozen=True)
class Cut:
    """An entry whose vector is of its beginning: its line, its key, and what was left out to keep a limit."""

    line: int
    key: str
    truncated: str


@dataclass(frozen=True)
class Chunk:
    """Vectors float32 [n, E] of consecutive entries, in their order; the rows of those that failed are NaN."""

    vectors_NE: np.ndarray
    failures: tuple[Failure, ...] = ()
    cuts: tuple[Cut, ...] = ()


class KeptChunks:
    """The chunks beside `output`, in `.NAME.partial/`; `job` is text that names weights and options.

    Raises DataError where the folder cannot be written.
    """

    def __init__(self, output: Path, job: str) -> None:
        self.folder = output.with_name(f".{output.name}.partial")
        self.job = job
        self._hashes: dict[int, str] = {}  # taken once: a media file may change while the work goes on

    def get(self, number: int, entries: Sequence[Entry]) -> Chunk | None:
        """The chunk of that number if it was finished for these very entries; else, or where it is damaged, None."""
        try:
            with safe_open(self._path(number), framework="numpy") as file:
                about = file.metadata() or {}
                if about.get("hash") != self._hash(number, entries):
                    return None
                failures = tuple(Failure(**failure) for failure in json.loads(about["failures"]))
                cuts = tuple(Cut(**cut) for cut in json.loads(about["cuts"]))
                return Chunk(file.get_tensor("vectors"), failures, cuts)
        except (OSError, SafetensorError, KeyError):  # KeyError: of before a chunk noted this
            return None

    def finished(self, number: int, entries: Sequence[Entry]) -> Chunk:
        """As `get`, of a chunk that must be there; DataError where it is not."""
        chunk = self.get(number, entries)
        if chunk is None:
            raise DataError(f"{self._path(number)}: was changed while the output was written; call again")
        return chunk

    def put(self, number: int, entries: Sequence[Entry], chunk: Chunk) -> None:
        """Keep a finished chunk, whole or not at all."""
        notes = {name: [asdict(one) for one in getattr(chunk, name)] for name in ("failures", "cuts")}
        about = {"hash": self._hash(number, entries), **{name: json.dumps(some) for name, some in notes.items()}}
        path = self._path(number)
        partial = path.with_suffix(".new")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file({"vectors": np.ascontiguousarray(chunk.vectors_NE)}, partial, metadata=about)
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{path}: cannot be written ({error}); free space, or choose another output") from error

    def clear(self) -> None:
        """Remove all chunks: the output is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.safetensors"

    def _hash(self, number: int, entries: Sequence[Entry]) -> str:
        if number in self._hashes:
            return self._hashes[number]
        state = hashlib.blake2b(self.job.encode(), digest_size=16)
        for entry in entries:
            stamp = entry.stamp().encode()
            state.update(f"\n{entry.line} {len(stamp)} ".encode() + stamp)
        self._hashes[number] = state.hexdigest()
        return self._hashes[number]
