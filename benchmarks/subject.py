"""The model that is measured, one step of its training, and contents of known lengths.

Sizes follow the weights folder: with small random parts in it every script runs in seconds.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
import transformers

from benchmarks.measure import operations
from commonspace import Content, Embedder
from commonspace.data.batch import Batch
from commonspace.models.build import ModelOptions, build_model
from commonspace.models.device import best_device
from commonspace.objectives.nce_options import NCEOptions
from commonspace.processing.pieces import Pieces
from commonspace.processing.preprocessing import Preprocessing
from commonspace.stages.finetune import FinetuneStage
from commonspace.stages.objective import Objective
from commonspace.stages.settings import StageSettings

TEXT, IMAGE, AUDIO = "multilingual-e5-small", "efficientnet-lite0", "whisper-tiny.en"
PREPROCESSING = Preprocessing(max_audio_seconds=30.0)  # as model=compact, whose towers' outputs the recipes keep
TEMPERATURE = 0.02
EVERYTHING = 1_000_000_000  # tokens: no batch goes by caching
WORDS = "a red fox in deep snow looks at the small house by the frozen river and waits for the first light".split()


def quiet() -> None:
    """Only what goes wrong from trainers and loaders: a table is being printed."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(lightning_fabric|pytorch_lightning)\.")
    transformers.utils.logging.set_verbosity_error()


def compact_model(weights: Path, towers: Sequence[str] = ("image", "audio")) -> Embedder:
    """The compact model of a weights folder, one embedding as wide as its encoder; contents beyond a limit are cut."""
    width = json.loads((weights / TEXT / "config.json").read_text())["hidden_size"]
    options = ModelOptions(
        backbone=TEXT,
        vision=IMAGE if "image" in towers else None,
        audio=AUDIO if "audio" in towers else None,
        embedding_size=width,
        matryoshka_sizes=(width,),
    )
    embedder = build_model(options, PREPROCESSING, weights=str(weights)).to(best_device())
    embedder.processor = embedder.processor.renewed("truncate")
    return embedder


def plain_stage(
    embedder: Embedder,
    task: str,
    *,
    steps: int,
    bf16: bool,
    cache_tokens: int = EVERYTHING,
    chunk_rows: int | None = None,
) -> FinetuneStage:
    """Fine-tuning with the loss that all peers have: both directions at one size; word table and towers are frozen."""
    settings = StageSettings(
        "finetune",
        steps=steps,
        cache_tokens=cache_tokens,
        temperature=TEMPERATURE,
        freeze=("words", "vision", "audio"),
        schedule="constant",
        warmup=0.0,
    )
    objective = Objective(None, [task], NCEOptions(chunk_rows=chunk_rows))
    return FinetuneStage(embedder, settings, objective, steps, bf16=bf16).to(embedder.device)


def bare_trainer(steps: int, *callbacks: pl.Callback) -> pl.Trainer:
    """Lightning's trainer as `commonspace train` has it, without logs, checkpoints and bars."""
    return pl.Trainer(
        accelerator="gpu" if best_device() == "cuda" else "cpu",
        devices=1,
        max_steps=steps,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def texts(count: int, shortest: int, longest: int, draw: np.random.Generator) -> list[str]:
    """Texts of random words; lengths are spread evenly over their logarithm, as captions and pages are."""
    lengths = np.exp(draw.uniform(np.log(shortest), np.log(longest + 1), count)).astype(int)
    return [" ".join(draw.choice(WORDS, length)) for length in lengths]


def text_batch(embedder: Embedder, pairs: int, shortest: int, longest: int, task: str = "summary") -> Batch:
    """A batch of random text pairs, all different."""
    made = texts(2 * pairs, shortest, longest, np.random.default_rng(0))
    pieces = [embedder.processor(Content(text)) for text in made]
    return Batch(
        task=task,
        query=pieces[:pairs],
        positive=pieces[pairs:],
        negatives=[[] for _ in range(pairs)],
        query_ids=torch.arange(pairs),
        positive_ids=torch.arange(pairs) + pairs,
        sources=[str(row) for row in range(pairs)],
        step=0,
    ).to(embedder.device)


def has_features(batch: Batch) -> bool:
    """Whether a medium of this batch came from the cache of frozen towers' outputs."""
    return any(piece.is_feature for pieces in (*batch.query, *batch.positive) for piece in pieces.pieces)


def model_operations(embedder: Embedder, batch: Sequence[Pieces], *, train: bool) -> int:
    """Operations that the vectors of contents take, each content alone and so without padding.

    With `train` a backward pass to every trainable tensor is included. Contents of one shape are counted once.
    """
    known: dict[object, int] = {}
    total = 0
    for pieces in batch:
        shape = tuple((piece.kind, piece.is_feature, tuple(piece.value.shape), piece.rows) for piece in pieces.pieces)
        if shape not in known:
            known[shape] = operations(lambda pieces=pieces: _pass(embedder, pieces, train))
        total += known[shape]
    return total


def _pass(embedder: Embedder, pieces: Pieces, train: bool) -> None:
    with torch.set_grad_enabled(train):
        vectors_1E = embedder([pieces])
        if train:
            vectors_1E.sum().backward()
            embedder.zero_grad(set_to_none=True)
