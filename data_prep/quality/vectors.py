"""A model's vectors of contents, one by one where some cannot be embedded: what agreement and likeness go by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from commonspace.content import Content
from commonspace.errors import ConfigError, ContentError, WeightsError
from data_prep.quality.chunks import written

if TYPE_CHECKING:
    from commonspace.models.embedder import Embedder
    from commonspace.processing.pieces import Pieces

_CHUNK = 256  # contents decoded at once


def model_print(model: Path, key: str) -> str:
    """Short hash of all that decides a model's vectors; raises ConfigError that names the option `key` where the folder
    holds no model.
    """
    from commonspace.models.folder import folder_fingerprint

    try:
        return folder_fingerprint(Path(model))[:16]
    except WeightsError as error:
        raise ConfigError(f"{key}: {error}") from error


def load(model: Path) -> Embedder:
    """The model of a folder, on a GPU where there is one. It embeds the beginning of what is longer than it takes, as
    in training and mining.
    """
    import torch

    from commonspace.models.embedder import Embedder

    return Embedder.load(model, on_limit="truncate").to("cuda" if torch.cuda.is_available() else "cpu")


def embedded(embedder: Embedder, contents: Sequence[Content], batch_tokens: int) -> np.ndarray:
    """Unit vectors float32 [N, E]; NaN where a content cannot be read, or is of a kind that the model does not take."""
    vectors_NE = np.full((len(contents), embedder.embedding_size), np.nan, np.float32)
    for start in range(0, len(contents), _CHUNK):
        found = {start + row: _pieces(embedder, one) for row, one in enumerate(contents[start : start + _CHUNK])}
        usable = {row: pieces for row, pieces in found.items() if pieces is not None}
        if usable:
            vectors_NE[list(usable)] = _vectors(embedder, list(usable.values()), batch_tokens)
    return vectors_NE


def _pieces(embedder: Embedder, content: Content) -> Pieces | None:
    try:
        return embedder.processor(content)
    except ContentError:
        return None


def _vectors(embedder: Embedder, batch: Sequence[Pieces], batch_tokens: int) -> np.ndarray:
    """By halves where the model has no tower for one of them."""
    try:
        return embedder.embed_pieces(batch, batch_tokens=batch_tokens).numpy()
    except ContentError:
        if len(batch) == 1:
            return np.full((1, embedder.embedding_size), np.nan, np.float32)
        half = len(batch) // 2
        return np.concatenate([_vectors(embedder, some, batch_tokens) for some in (batch[:half], batch[half:])])


def save(path: Path, values: np.ndarray) -> None:
    """Write a chunk whole or not at all; raises DataError where it cannot be written."""
    with written(path) as partial, partial.open("wb") as file:
        np.save(file, values)
