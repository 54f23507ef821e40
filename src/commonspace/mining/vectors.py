"""Vectors of one side of a task on disk, in parts of so many records: made once for a model, whatever is mined then.

vectors/<hash>/000012.npy          float32 [records, E], zeros where a record could not be embedded
vectors/<hash>/000012.safetensors  ids (content hashes), texts, words (codes), usable; its notes name what failed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch

from commonspace.content import Content, Text
from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import ContentError, DataError
from commonspace.evaluation.relevance import name_of, normalise
from commonspace.mining.parts import (
    job_folder,
    make_parts,
    part_paths,
    read_notes,
    read_part,
    write_part,
    write_whole,
)
from commonspace.mining.rules import code

Side = Literal["query", "positive"]


class Embeds(Protocol):
    """What ranks: `commonspace.models.embedder.Embedder` is one."""

    def embed(self, contents: Iterable[Content], **options: object) -> np.ndarray:
        """Unit rows float32 [N, E]."""


@dataclass(frozen=True)
class Model:
    """A model by name and fingerprint (equal ones, equal vectors), which is loaded when vectors are missing."""

    name: str
    fingerprint: str
    load: Callable[[], Embeds]
    batch_tokens: int = 8192


def side_of(record: Record, side: Side) -> Content:
    """The canonical query or positive of a record."""
    return (record.queries if side == "query" else record.positives)[0].content


class Vectors:
    """One side of a task's records, row by row as the shards have them; N records in parts of `chunk`."""

    def __init__(self, folder: Path, records: int, chunk: int) -> None:
        self.folder, self.records, self.chunk = folder, records, chunk
        self.paths = part_paths(folder, -(-records // chunk))
        self._kept: torch.Tensor | None = None

    def part(self, number: int) -> range:
        """The rows of a part."""
        return range(number * self.chunk, min(self.records, (number + 1) * self.chunk))

    def fact(self, name: str) -> np.ndarray:
        """ids, texts, words int64 or usable bool of all records, [N]."""
        return self._facts[name]

    @cached_property
    def _facts(self) -> dict[str, np.ndarray]:
        parts = [read_part(path) for path in self.paths]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @cached_property
    def failures(self) -> list[str]:
        """One message for each record that could not be embedded."""
        return [note for path in self.paths for note in read_notes(path)]

    def of_part(self, number: int) -> np.ndarray:
        """Vectors [n, E] of a part, mapped, not read. A damaged file is taken away and told by DataError."""
        path = self.paths[number].with_suffix(".npy")
        try:
            mapped = np.load(path, mmap_mode="r")
            if len(mapped) != len(self.part(number)):
                raise ValueError(f"{len(mapped)} rows")
        except (OSError, ValueError, EOFError) as error:
            self.paths[number].unlink(missing_ok=True)
            raise DataError(f"{path}: was damaged ({error}) and is taken away; run the same command again") from error
        return mapped

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Vectors float32 [len(rows), E] of some rows, in the order asked."""
        if self._kept is not None:
            return self._kept[torch.from_numpy(rows)].cpu().numpy()
        out = np.empty((len(rows), self.size), dtype=np.float32)
        order = np.argsort(rows, kind="stable")
        ends = np.searchsorted(rows[order], np.arange(len(self.paths) + 1) * self.chunk)
        for number in np.flatnonzero(np.diff(ends)):
            places = order[ends[number] : ends[number + 1]]
            out[places] = self.of_part(int(number))[rows[places] - number * self.chunk]
        return out

    @property
    def size(self) -> int:
        """Numbers in a vector."""
        return self.of_part(0).shape[1]

    def keep(self, megabytes: float, device: str) -> None:
        """Hold all vectors in memory if they take at most so many megabytes; else they are read again when needed."""
        if self._kept is None and 4 * self.records * self.size <= megabytes * 1e6:
            kept = torch.empty(self.records, self.size, device=device)
            for number in range(len(self.paths)):
                kept[self.part(number)] = torch.from_numpy(np.array(self.of_part(number))).to(device)
            self._kept = kept

    def blocks(self, size: int) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row, vectors [n, E]) of consecutive rows, at least `size` of them at a time but at the end."""
        if self._kept is not None:
            yield from ((start, self._kept[start : start + size]) for start in range(0, self.records, size))
            return
        several = max(1, -(-size // self.chunk))
        for first in range(0, len(self.paths), several):
            numbers = range(first, min(first + several, len(self.paths)))
            block = np.concatenate([self.of_part(number) for number in numbers])
            yield first * self.chunk, torch.from_numpy(block)


def embed_side(
    model: Model,
    reader: ShardReader,
    side: Side,
    root: Path,
    *,
    prompt: str | None = None,
    chunk: int = 256,
    progress: bool = False,
) -> Vectors:
    """Vectors of one side of every record, from `root` where they were made before, with others who make them now.

    prompt  task prefix of contents of text alone
    Raises DataError where no record at all can be embedded.
    """
    folder = job_folder(
        root, "vectors", model=model.fingerprint, shards=reader.fingerprint, side=side, prompt=prompt, chunk=chunk
    )
    vectors = Vectors(folder, len(reader), chunk)
    loaded: list[Embeds] = []

    def make(number: int) -> None:
        if not loaded:
            loaded.append(model.load())
        contents, failures = _contents(reader, vectors.part(number), side)
        values = _embed(loaded[0], contents, failures, prompt, model.batch_tokens)
        write_whole(vectors.paths[number].with_suffix(".npy"), lambda path: save_rows(path, values))
        facts, notes = _facts_of(contents, failures), [f"{key}: {told}" for key, told in failures.items()]
        write_part(vectors.paths[number], facts, notes)

    make_parts(vectors.paths, make, f"embedding {reader.task} ({side})", progress=progress)
    if not vectors.fact("usable").any():
        raise DataError(f"{reader!r}: no {side} could be embedded; the first: {vectors.failures[0]}")
    return vectors


def save_rows(path: Path, values_NE: np.ndarray) -> None:
    """Vectors of a part as `Vectors.of_part` maps them."""
    with path.open("wb") as file:  # given a name, numpy would add an ending
        np.save(file, values_NE)


def _contents(reader: ShardReader, rows: Sequence[int], side: Side) -> tuple[dict[str, Content | None], dict[str, str]]:
    """The contents of some rows by key, None for those that are damaged, which the second names."""
    keys = reader.index.column("key").slice(rows[0], len(rows)).to_pylist()
    contents: dict[str, Content | None] = {}
    failures: dict[str, str] = {}
    reader.fetch(rows)
    for row, key in zip(rows, keys, strict=True):
        try:
            contents[key] = side_of(reader.read(row), side)
        except DataError as error:
            contents[key], failures[key] = None, str(error)
    return contents, failures


def _embed(
    embedder: Embeds,
    contents: dict[str, Content | None],
    failures: dict[str, str],
    prompt: str | None,
    batch_tokens: int,
) -> np.ndarray:
    """Vectors [n, E], zeros for what cannot be embedded, which `failures` then names."""
    options = {"task": prompt, "role": "query" if prompt else None, "batch_tokens": batch_tokens}
    readable = {key: content for key, content in contents.items() if content is not None}
    try:
        found = dict(zip(readable, embedder.embed(list(readable.values()), **options), strict=True))
    except ContentError:  # find out which, one by one
        found = {}
        for key, content in readable.items():
            try:
                found[key] = embedder.embed([content], **options)[0]
            except ContentError as error:
                failures[key] = str(error)
    for key in [key for key, vector in found.items() if not np.isfinite(vector).all()]:
        failures[key] = "its vector is not finite"
        del found[key]
    width = len(next(iter(found.values()))) if found else embedder.embed([], **options).shape[1]
    out_NE = np.zeros((len(contents), width), dtype=np.float32)
    for place, key in enumerate(contents):
        if key in found:
            out_NE[place] = found[key]
    return out_NE


def _facts_of(contents: dict[str, Content | None], failures: dict[str, str]) -> dict[str, np.ndarray]:
    """What rules ask of contents; of those that failed nothing."""
    left = [None if key in failures else content for key, content in contents.items()]
    return {
        "ids": np.array([0 if content is None else content.digest() for content in left], dtype=np.int64),
        "texts": np.array([code(name_of(content)) if content else 0 for content in left], dtype=np.int64),
        "words": np.array([code(normalise(words_of(content))) if content else 0 for content in left], dtype=np.int64),
        "usable": np.array([content is not None for content in left], dtype=bool),
    }


def words_of(content: Content) -> str:
    """The texts of a content that stand in no document, joined."""
    return " ".join(part.text for part in content.parts if isinstance(part, Text))
