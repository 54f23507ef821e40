"""Retrieval examples as a W&B table: pictures that are seen, sounds that can be played, texts that can be read."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
from PIL import Image as pil
from pytorch_lightning.loggers import Logger, WandbLogger

from commonspace.content import Audio, Content, Document, Image, Text, Video
from commonspace.errors import ContentError
from commonspace.processing.image import read_image
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.video import read_frames

SIDE = 128  # pixels of a picture in a table
SECONDS = 10.0  # of a sound, at most
LETTERS = 400
_PIXELS = 50_000_000
_COLUMNS = ("text", "picture", "sound")


@dataclass(frozen=True)
class Example:
    """One query with its own answer and what the model found in its place, best first, with their scores.

    rank  of the best correct answer; 1: found at once
    kind  "failure" or "success"
    """

    task: str
    kind: str
    rank: int
    query: Content
    answer: Content
    answer_score: float
    found: tuple[Content, ...]
    scores: tuple[float, ...]


def log_examples(loggers: Iterable[Logger], name: str, examples: Sequence[Example]) -> None:
    """Log a table of examples with W&B; without its logger, or without examples, nothing is logged."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and examples:
            logger.experiment.log({name: examples_table(examples)})


def examples_table(examples: Sequence[Example]) -> Any:
    """A `wandb.Table`, a row an example; of a content its text, its first picture and its first sound."""
    import wandb

    most = max(len(example.found) for example in examples)
    sides = ["query", "answer", *(f"found_{place + 1}" for place in range(most))]
    columns = ["task", "kind", "rank", "answer_score", *(f"found_{place + 1}_score" for place in range(most))]
    table = wandb.Table(columns=[*columns, *(f"{side}_{what}" for side in sides for what in _COLUMNS)])
    for example in examples:
        missing = most - len(example.found)
        contents = [example.query, example.answer, *example.found, *[None] * missing]
        cells = [cell for content in contents for cell in _cells(content)]
        scores = [*example.scores, *[None] * missing]
        table.add_data(example.task, example.kind, example.rank, example.answer_score, *scores, *cells)
    return table


def _cells(content: Content | None) -> tuple[str | None, Any, Any]:
    """(text, picture, sound) of a content, None for what it does not have or what cannot be read."""
    import wandb

    if content is None:
        return None, None, None
    parts, seen = _parts(content), picture(content)
    text = " | ".join(part.text for part in parts if isinstance(part, Text))[:LETTERS] or None
    heard = next((sound for part in parts if (sound := _sound(part)) is not None), None)
    return (
        text,
        None if seen is None else wandb.Image(pil.fromarray(seen)),
        None if heard is None else wandb.Audio(heard[0], sample_rate=heard[1]),
    )


def picture(content: Content) -> np.ndarray | None:
    """uint8 [SIDE, SIDE, 3] of a content's first picture, of a clip its first frame; None where it has none."""
    return next((pixels for part in _parts(content) if (pixels := _picture(part)) is not None), None)


def _parts(content: Content) -> list[object]:
    """The parts of a content, those of its documents one by one."""
    return [inner for part in content.parts for inner in (part.parts if isinstance(part, Document) else (part,))]


def _picture(part: object) -> np.ndarray | None:
    try:
        if isinstance(part, Image):
            return read_image(part, SIDE, _PIXELS).permute(1, 2, 0).numpy()
        if isinstance(part, Video):
            frames_F3SS, _ = read_frames(part, Preprocessing(image_size=SIDE, image_grid=1), cut=True)
            return frames_F3SS[0].permute(1, 2, 0).numpy()
    except ContentError:  # the run has told of it already; a table is no place to stop
        return None
    return None


def _sound(part: object) -> tuple[np.ndarray, int] | None:
    """(samples float32 [n], rate in Hz) of a sound's beginning; None for what is no sound or cannot be read."""
    if not isinstance(part, Audio):
        return None
    if isinstance(part.source, np.ndarray):
        samples, rate = np.atleast_2d(part.source), int(part.rate or 0)
        if np.issubdtype(samples.dtype, np.integer):
            samples = samples / float(np.iinfo(samples.dtype).max)
        return samples.mean(axis=0)[: int(SECONDS * rate)].astype(np.float32), rate
    try:
        with soundfile.SoundFile(io.BytesIO(part.read_bytes())) as opened:
            samples = opened.read(int(SECONDS * opened.samplerate), dtype="float32", always_2d=True)
            return samples.mean(axis=1), opened.samplerate
    except (ContentError, soundfile.LibsndfileError):
        return None
