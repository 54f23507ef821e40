"""How well the two sides of each row agree, as a model sees it: the cosine of their vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress

from commonspace.errors import CommonspaceError, ConfigError
from commonspace.files import sha256_of
from data_prep.quality.chunks import chunks, written
from data_prep.quality.signals import Split


def agreements(
    splits: Sequence[Split], model: Path, cache: Path, batch_tokens: int, progress: Progress
) -> list[np.ndarray]:
    """The cosine of the canonical sides of every row, float32 [records] a split; NaN where a side cannot be embedded.

    Kept by chunk in the cache, under the hashes of the model and of the shards; an interrupted call goes on.

    Raises:
        ConfigError: there is no model in that folder.
        DataError: the cache cannot be written.
    """
    name = weights_print(model, "agreement.model")
    bar = progress.add_task("score agreement", total=sum(len(split.reader) for split in splits))
    embedder, found = None, []
    for split in splits:
        reader, parts = split.reader, []
        for start, stop, path in chunks(reader, cache, f"agreement-{name}", "npy"):
            if not path.is_file():
                if embedder is None:
                    embedder = load(Path(model))
                save(path, _scores(embedder, [reader.read(row) for row in range(start, stop)], batch_tokens))
            parts.append(np.load(path))
            progress.advance(bar, stop - start)
        found.append(np.concatenate(parts))
    return found


def weights_print(model: Path, key: str) -> str:
    """Short hash of a model's weights; raises ConfigError that names the option `key` where the folder holds none."""
    weights = Path(model) / "model.safetensors"
    if not weights.is_file():
        raise ConfigError(f"{key}: {model} holds no model.safetensors; give the folder of a trained model")
    return sha256_of(weights)[:16]


def load(model: Path):
    """The model of a folder, on a GPU where there is one."""
    import torch

    from commonspace.models.embedder import Embedder

    return Embedder.load(model).to("cuda" if torch.cuda.is_available() else "cpu")


def _scores(embedder, records: Sequence, batch_tokens: int) -> np.ndarray:
    pairs = [(record.queries[0].content, record.positives[0].content) for record in records]
    try:
        sides = [embedder.embed([pair[side] for pair in pairs], batch_tokens=batch_tokens) for side in (0, 1)]
        return (sides[0] * sides[1]).sum(axis=1).astype(np.float32)
    except CommonspaceError:
        return np.array([_one(embedder, pair, batch_tokens) for pair in pairs], np.float32)


def _one(embedder, pair, batch_tokens: int) -> float:
    try:
        query, positive = embedder.embed(list(pair), batch_tokens=batch_tokens)
    except CommonspaceError:
        return float("nan")
    return float(query @ positive)


def save(path: Path, scores: np.ndarray) -> None:
    """Write a chunk whole or not at all; raises DataError where it cannot be written."""
    with written(path) as partial, partial.open("wb") as file:
        np.save(file, scores)


def spread(scores: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """{task: quantiles of its rows' agreement}: what a threshold would leave."""
    places = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95)
    return {
        task: {
            f"{place:g}": round(float(value), 4)
            for place, value in zip(places, np.nanquantile(rows, places), strict=True)
        }
        for task, rows in scores.items()
        if np.isfinite(rows).any()
    }
