"""A few steps of one stage on one sequence of global batches, by any number of processes and either strategy.

Everything is float64 and without dropout, so whatever differs beyond rounding is a mistake. Lightning's own strategies
drive each process, as `commonspace train` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback

from commonspace import Content
from commonspace.data.batch import Batch
from commonspace.evaluation.shares import embed_in_shares
from commonspace.models.embedder import Embedder
from commonspace.objectives.gather import rank_and_size
from commonspace.objectives.nce_options import NCEOptions
from commonspace.stages.callbacks import SameSteps, WeightAverage
from commonspace.stages.checkpoints import Checkpoints
from commonspace.stages.contrastive import ContrastiveStage
from commonspace.stages.objective import Objective
from commonspace.stages.optimiser import unfreeze_towers
from commonspace.stages.settings import StageSettings
from commonspace.stages.sharded_strategy import ShardedStrategy
from commonspace.stages.sharding import gathered, whole
from tests.models.tiny import WORDS, clip, contents, picture, sound, tiny_embedder

STEPS, SIZE = 3, 4
# Hard negatives of each row: some have none, and the longest list differs from process to process.
COUNTS = (2, 0, 1, 0)
TAIL = {"average": "tail", "average_share": 1.0}  # the mean of the weights after each step


@dataclass(frozen=True)
class Case:
    """How a run goes. `kinds` are those of the rows of each step, both sides of a pair alike.

    settings     of the stage; the weights' average within the run is one of them
    start, stop  steps taken; `resume` is the checkpoint to start from, `save` the folder of a checkpoint each step
    looks        the model is evaluated, in shares, between two steps
    """

    kinds: tuple[str, ...] = ("text", "image", "audio", "clip")
    strategy: str = "ddp"
    cache_tokens: int = 16384
    settings: Mapping[str, Any] = field(default_factory=lambda: TAIL)
    pooling: str = "mean"
    start: int = 0
    stop: int = STEPS
    resume: str | None = None
    save: str | None = None
    save_shares: bool = False
    looks: bool = False


# The first half of the rows is text and nothing else, the second is clips and nothing else; nobody has a sound.
PARTED = ("text", "text", "clip", "clip")


def model(pooling: str = "mean") -> Embedder:
    """The tiny model, whose towers train too, in float64."""
    embedder = tiny_embedder(pooling=pooling, text_hidden=16)
    unfreeze_towers(embedder, 1, audio=True)
    return embedder.double()


def batch_of(step: int, kinds: Sequence[str], process) -> Batch:
    """A global batch of `SIZE` rows; rows 1 and 2 share their target, 0 and 3 their query, by their ids."""

    def one(kind: str, seed: int) -> Content:
        words = " ".join(WORDS[(seed * (i + 3) + i) % len(WORDS)] for i in range(1 + seed % 7))
        return Content(
            {"text": words, "image": picture(seed), "audio": sound(pitch=200.0 + seed), "clip": clip(seed)}[kind]
        )

    sides = [[process(one(kind, 100 * step + 10 * row + side)) for row, kind in enumerate(kinds)] for side in (0, 1)]
    negatives = [
        [process(one(kinds[row], 100 * step + 10 * row + 2 + number)) for number in range(count)]
        for row, count in enumerate(COUNTS)
    ]
    return Batch(
        task="made", query=sides[0], positive=sides[1], negatives=negatives,
        query_ids=torch.tensor([0, 1, 2, 0]), positive_ids=torch.tensor([10, 11, 11, 13]),
        sources=[str(row) for row in range(SIZE)], step=step,
    )  # fmt: skip


def share_of(batch: Batch, rank: int, world: int) -> Batch:
    """The rows of one process, as the mixture gives them."""
    rows = slice(rank * len(batch) // world, (rank + 1) * len(batch) // world)
    sliced = ("query", "positive", "negatives", "query_ids", "positive_ids", "negative_ids", "sources")
    return replace(batch, parts=(), **{name: getattr(batch, name)[rows] for name in sliced})


@dataclass
class Batches:
    """Batches from `start` on; `len` is that of the whole run, as the mixture's loader has it."""

    batches: list[Batch]
    start: int

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches[self.start :])


class Looks(Callback):
    """Embeds between steps, as dev scores do; `vectors` are those after the last."""

    vectors: torch.Tensor | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, stage: ContrastiveStage, *_: Any) -> None:
        self.vectors = vectors_of(stage)


def vectors_of(stage: ContrastiveStage) -> torch.Tensor:
    pieces = [stage.embedder.processor(content) for content in contents()]
    return embed_in_shares(stage.embedder, pieces, batch_tokens=24, group=stage.group)


@cache
def batches_of(kinds: tuple[str, ...]) -> list[Batch]:
    """The global batches of all steps."""
    process = model().processor
    return [batch_of(step, kinds, process) for step in range(STEPS)]


def train(case: Case) -> dict[str, torch.Tensor]:
    """Weights after a run, whole, by name; "average/..." are those of its weight average, "vectors" what it embeds."""
    rank, world = rank_and_size(dist.group.WORLD if dist.is_initialized() else None)
    embedder = model(case.pooling)
    rates = {f"{name}learning_rate": 1e-2 for name in ("", "tower_", "new_")}
    settings = StageSettings(
        "finetune", steps=STEPS, cache_tokens=case.cache_tokens, warmup=0.0, **rates, **{"freeze": (), **case.settings}
    )
    objective = Objective((8, 16, 32), {"made"}, NCEOptions(share_negatives=True))
    stage = ContrastiveStage(embedder, settings, objective, STEPS).double()
    average, looks = WeightAverage(settings, STEPS), Looks()
    callbacks: list[Callback] = [SameSteps(), *([looks] if case.looks else []), average]
    if case.save:
        callbacks.append(Checkpoints(Path(case.save), 1, keep=STEPS))
    sharded = ShardedStrategy(save_shares=case.save_shares)
    trainer = pl.Trainer(
        accelerator="cpu", devices=world, max_steps=case.stop, callbacks=callbacks, logger=False, barebones=False,
        strategy="auto" if world == 1 and case.strategy == "ddp" else sharded if case.strategy == "fsdp" else "ddp",
        enable_checkpointing=bool(case.save), enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, num_sanity_val_steps=0,
    )  # fmt: skip
    embedder.train()
    loader = Batches([share_of(batch, rank, world) for batch in batches_of(case.kinds)], case.start)
    trainer.fit(stage, train_dataloaders=loader, ckpt_path=case.resume, weights_only=True)
    assert trainer.global_step == case.stop
    found = gathered(stage.embedder, model(case.pooling)) if stage.sharded else stage.embedder
    result = {name: tensor.detach().clone() for name, tensor in found.state_dict().items()}
    result |= {f"temperature/{name}": value for name, value in whole(stage.temperature.state_dict()).items()}
    if case.looks:
        result["vectors"] = looks.vectors
    if case.stop == STEPS:
        average.apply(stage)
        found = gathered(stage.embedder, model(case.pooling)) if stage.sharded else stage.embedder
        result |= {f"average/{name}": tensor.detach().clone() for name, tensor in found.named_parameters()}
    return result
