"""Training rows near to what an evaluation asks, as a model sees them: by the cosine of the vectors of their sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.progress import Progress

from data_prep.quality.chunks import chunks
from data_prep.quality.rules import SIDES
from data_prep.quality.signals import Split
from data_prep.quality.vectors import embedded, load, model_print, save

RULE = "near vector"
BLOCK = 4096  # vectors of either collection that are multiplied at once: 64 MiB


@dataclass(frozen=True)
class Likeness:
    """model: its folder; least: cosine from which two contents of one kind are the same."""

    model: Path
    least: float


class Vectors:
    """Vectors of the canonical sides of rows, kept by chunk in the cache; the model loads when one is missing.

    `not_scored` counts the rows read so far that have a side without one: {(task, whether of training): rows}. Raises
    ConfigError where the folder holds no model.
    """

    def __init__(self, likeness: Likeness, cache: Path, batch_tokens: int) -> None:
        self.model, self.least, self.cache, self.batch_tokens = likeness.model, likeness.least, cache, batch_tokens
        self.name = model_print(self.model, "likeness.model")
        self.not_scored: Counter[tuple[str, bool]] = Counter()
        self._embedder = None

    def chunks(self, split: Split) -> Iterator[tuple[int, np.ndarray]]:
        """First row and float32 [rows, 2, E] of each chunk; NaN where a side cannot be embedded."""
        reader = split.reader
        for start, stop, path in chunks(reader, self.cache, f"likeness-{self.name}", "npy"):
            if not path.is_file():
                records = [reader.read(row) for row in range(start, stop)]
                sides = [[one.queries[0].content for one in records], [one.positives[0].content for one in records]]
                save(path, np.stack([self._embed(contents) for contents in sides], axis=1))
            vectors_N2E = np.load(path)
            missing = ~np.isfinite(vectors_N2E).all(axis=(1, 2))
            self.not_scored[split.task, split.side == "train"] += int(missing.sum())
            yield start, vectors_N2E

    def _embed(self, contents: list) -> np.ndarray:
        if self._embedder is None:
            self._embedder = load(self.model)
        return embedded(self._embedder, contents, self.batch_tokens)


def find_like(
    train: Sequence[Split],
    held: Sequence[Split],
    table_of: dict[Split, pa.Table],
    vectors: Vectors,
    least_characters: int,
    progress: Progress,
) -> dict[Split, np.ndarray]:
    """bool [rows] of each training split: a side is near to a side of the same kind of any evaluation row.

    Texts count from `least_characters` on. Of evaluation rows every vector is held, of training rows those of a chunk.
    """
    bar = progress.add_task("compare vectors", total=sum(len(table_of[split]) for split in (*held, *train)))
    theirs: dict[str, list[np.ndarray]] = {}
    for split in held:
        for start, vectors_N2E in vectors.chunks(split):
            for _, kind, some in _sides(table_of[split], start, vectors_N2E, least_characters):
                theirs.setdefault(kind, []).append(some)
            progress.advance(bar, len(vectors_N2E))
    asked = {kind: np.concatenate(parts) for kind, parts in theirs.items()}
    found = {split: np.zeros(len(table_of[split]), bool) for split in train}
    for split in train:
        for start, vectors_N2E in vectors.chunks(split):
            for rows, kind, some in _sides(table_of[split], start, vectors_N2E, least_characters):
                if kind in asked:
                    found[split][rows] |= near_vector(some, asked[kind], vectors.least)
            progress.advance(bar, len(vectors_N2E))
    return found


def near_vector(vectors_NE: np.ndarray, others_ME: np.ndarray, least: float, block: int = BLOCK) -> np.ndarray:
    """bool [N]: whether the cosine of a unit vector with any of the others is at least `least`."""
    found = np.zeros(len(vectors_NE), bool)
    for start in range(0, len(vectors_NE), block):
        mine = slice(start, start + block)
        for other in range(0, len(others_ME), block):
            found[mine] |= (vectors_NE[mine] @ others_ME[other : other + block].T >= least).any(axis=1)
    return found


def _sides(
    table: pa.Table, start: int, vectors_N2E: np.ndarray, least_characters: int
) -> Iterator[tuple[np.ndarray, str, np.ndarray]]:
    """Rows, their kind and their vectors, for each kind of each side of a chunk."""
    rows = table.slice(start, len(vectors_N2E))
    for number, side in enumerate(SIDES):
        kinds = np.array(rows.column(f"{side}_kind").to_pylist(), object)
        long = rows.column(f"{side}_characters").to_numpy() >= least_characters
        usable = np.isfinite(vectors_N2E[:, number]).all(axis=1) & ((kinds != "text") | long)
        for kind in dict.fromkeys(kinds[usable]):
            mine = np.flatnonzero(usable & (kinds == kind))
            yield start + mine, kind, vectors_N2E[mine, number]
