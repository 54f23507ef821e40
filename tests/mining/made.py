"""Records whose vectors are written in their texts, and what mines them without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from commonspace.content import Content, Text
from commonspace.data.sample import Record, Variant
from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import ContentError
from commonspace.mining.vectors import Model


class Written:
    """Embeds a content by the numbers written in its text, or in its image's bytes; counts what it was given."""

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, contents, *, task=None, role=None, batch_tokens=8192) -> np.ndarray:
        rows = []
        for content in contents:
            part = content.parts[0]
            text = part.text if isinstance(part, Text) else part.read_bytes().decode()
            if text.startswith("broken"):
                raise ContentError(f"{text}: cannot be read")
            rows.append([float(number) for number in text.split("|")[1].split()])
        self.embedded += len(rows)
        values = np.array(rows, dtype=np.float32).reshape(len(rows), len(rows[0]) if rows else 2)
        return values / np.linalg.norm(values, axis=1, keepdims=True)


def model(name: str = "written", embedder: Written | None = None) -> Model:
    return Model(name, name, lambda: embedder or Written())


def pair(key: str, query: str, positive: str, concept: str | None = None) -> Record:
    return Record(key, "any", "made", concept or key, (Variant(Content(query)),), (Variant(Content(positive), "en"),))


def plain_pairs(count: int, seed: int = 0, width: int = 4) -> list[Record]:
    rng = np.random.default_rng(seed)
    query, target = rng.normal(size=(count, width)), rng.normal(size=(count, width))
    say = lambda name, n, row: f"{name}{n}|" + " ".join(f"{value:.4f}" for value in row)  # noqa: E731
    return [pair(f"r{n}", say("q", n, query[n]), say("t", n, target[n])) for n in range(count)]


def write(folder: Path, records: Sequence[Record], split: str = "train", task: str = "any") -> ShardReader:
    with ShardWriter(folder / task, task, split, {"made": "CC0"}) as writer:
        for record in records:
            writer.write(record)
    return ShardReader(folder / task, split)


def vectors_of(reader: ShardReader) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of all queries and of all positives."""
    records = list(reader)
    sides = ([r.queries[0].content for r in records], [r.positives[0].content for r in records])
    return Written().embed(sides[0]), Written().embed(sides[1])


def by_key(mined, reader: ShardReader) -> dict[str, list[str]]:
    """Mined lists as keys."""
    keys = reader.index.column("key").to_pylist()
    return {
        keys[row]: [keys[other] for other in mined.rows[mined.list_of(place)]] for place, row in enumerate(mined.asked)
    }
