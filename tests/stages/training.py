"""Small shards and a small model folder for runs of whole stages: `commonspace train` in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from commonspace import Content
from commonspace.configuration import compose
from commonspace.content import Image
from commonspace.stages.train import train
from tests.evaluation.made import record, write
from tests.media import picture_bytes
from tests.models.tiny import WORDS, tiny_embedder

# What a `tiny_embedder` is, in options.
MODEL = (
    "model.image_size=64 model.image_grid=2 model.document_grid=2 model.frame_grid=1 model.max_tokens=128 "
    "model.max_text_tokens=64 model.max_audio_seconds=180.0 model.embedding_size=32 model.matryoshka_sizes=[8,16,32] "
    "model.connector_hidden=64 model.text_hidden=0 "
    "data.features=false trainer.precision=32-true trainer.accelerator=cpu callbacks.progress=none"
).split()
TEXTS = [" ".join(pair) for pair in permutations(WORDS[1:12], 2)]


def blocks(seed: int) -> np.ndarray:
    """A picture of sixteen coloured blocks, uint8 [40, 40, 3]: unlike noise, even a random tower tells two apart."""
    colours = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return colours.repeat(10, axis=0).repeat(10, axis=1)


def write_pairs(root: Path, *, train: int = 48, dev: int = 6, broken: tuple[int, ...] = ()) -> Path:
    """Pictures with captions, and captions with their first words; some train pictures cannot be read."""
    for split, first, count in (("train", 0, train), ("dev", train, dev)):
        captions, summaries = [], []
        for number in range(first, first + count):
            text = TEXTS[number]
            data = b"\x89PNG broken" + bytes([number]) if number in broken else picture_bytes(blocks(number))
            image = Content(Image(data, name=f"{number}.png"))
            captions.append(record(f"i{number}", "image_caption", text, image, ("en", Content(text))))
            wider = Content(f"the {text}")
            summaries.append(record(f"s{number}", "summary", text, Content(text), ("en", wider)))
        write(root, "image_caption", captions, split)
        write(root, "summary", summaries, split)
    return root


def settings(folder: Path, *overrides: str, root: str = "train") -> DictConfig:
    """The config of a run whose folders all lie in `folder`."""
    places = [f"paths.{name}={folder / name}" for name in ("data", "cache", "runs", "models", "docs")]
    return compose(root, [*places, *overrides])


def trained(words: Sequence[str]) -> dict[str, torch.Tensor]:
    """`commonspace train` in this process: a folder and overrides, for `tests.stages.ranks`."""
    folder, *overrides = words
    return {"dev": torch.tensor(train(settings(Path(folder), *overrides)))}


def start_model(folder: Path, pooling: str = "mean") -> Path:
    """A model folder to start from."""
    tiny_embedder(pooling=pooling).save(folder)
    return folder
