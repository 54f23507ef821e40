"""`commonspace embed`: contents in, one unit vector a line out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from commonspace.content import Content
from commonspace.errors import ContentError, DataError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(config: DictConfig) -> None:
    """Embed every line of `input`, in order, and write `output` (.npy, float32 [lines, dim]) whole or not at all."""
    from commonspace.models.device import best_device
    from commonspace.models.embedder import Embedder

    contents = list(read_contents(Path(config.input)))
    model = Embedder.load(Path(config.embedder)).to(best_device())
    vectors_ND = model.embed(
        contents, dim=config.dim, task=config.task, role=config.role, batch_tokens=config.batch_tokens, progress=True
    )
    output = Path(config.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    with partial.open("wb") as file:
        np.save(file, vectors_ND)
    os.replace(partial, output)
    print(f"{output}: {vectors_ND.shape[0]} vectors of {vectors_ND.shape[1]}")


def read_contents(path: Path) -> Iterator[Content]:
    """Contents of a JSON lines file, media files found beside it.

    Raises DataError where the file is missing, empty or not JSON, ContentError for a line that is no content; both
    name the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise DataError(f'{path}: holds no content; write one a line, as in ["a red fox", {{"image": "fox.jpg"}}]')
    for number, line in numbered:
        try:
            yield Content.from_json(json.loads(line), lambda name: path.parent / name)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error})") from error
        except ContentError as error:
            raise ContentError(f"{path}, line {number}: {error}") from error
