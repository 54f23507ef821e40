"""The sides of benchmarks/training.py: this project's trainer, sentence-transformers' and open_clip's loop.

All train the same parts from the same weights on the same pairs, with AdamW, clipping at 1, no dropout, the symmetric
contrastive loss at one size, and one process that loads data. A side is called for one short run and gives the seconds
of a step: the first step, with everything that starts up, is left out.

sentence-transformers' text model is made of its own modules, BERT and mean pooling, without our linear head. Images
have no module there that our backbone would fit, so `SameBackbone` puts our model itself under its trainer and under
open_clip's loop: one forward pass a side of the pairs, padded to the longest of the batch.
"""

from __future__ import annotations

import io
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytorch_lightning as pl
import torch
from open_clip import ClipLoss
from open_clip_train.data import DataInfo
from open_clip_train.train import train_one_epoch
from PIL import Image as pil
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback

from benchmarks.embed_sides import Peer
from benchmarks.same_backbone import SameBackbone, TwoSided
from benchmarks.subject import TEMPERATURE, bare_trainer, compact_model, has_features, plain_stage
from commonspace import Content, Embedder
from commonspace.content import Text
from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.data.encoding import TaskOptions, draw, sample_seed
from commonspace.data.features import attach_features
from commonspace.data.mixture import Mixture
from commonspace.models.device import best_device

Pair = tuple[str | bytes, str]  # a text or an image file, and a text
RATE, DECAY, CLIP = 2e-5, 0.01, 1.0
FIRST_VARIANT = 0.9  # probability, as the mini recipe draws


@dataclass(frozen=True)
class Case:
    """What is trained on: a task of a tier, pairs a batch, steps of one run, and the precision."""

    task: str
    batch: int
    steps: int
    precision: str
    weights: Path
    data: Path
    cache: Path | None = None  # frozen towers' outputs come from there; our side alone can do that

    @property
    def bf16(self) -> bool:
        return self.precision == "bf16-mixed"

    def datamodule(self, embedder: Embedder) -> CommonspaceDataModule:
        """The pairs as our trainer reads them."""
        return CommonspaceDataModule(
            self.data,
            {self.task: {"batch_size": self.batch, "rate": 1.0, "reverse": True}},
            embedder.processor,
            seed=1,
            steps=self.steps,
            workers=1,
            bucket=1,
            canonical=FIRST_VARIANT,
        )

    def pairs(self, embedder: Embedder) -> list[Pair]:
        """The very samples that our trainer draws, as files and strings."""
        module = self.datamodule(embedder)
        module.setup()
        reader, found = module.data[self.task].reader, []
        for plan in Mixture(module.plans, seed=1, steps=self.steps):
            for row in plan.indices.tolist():
                options = TaskOptions(canonical=FIRST_VARIANT)
                sample = draw(reader.read(row), sample_seed(plan.seed, row), options)
                found.append((_value(sample.query), str(_value(sample.positive))))
        return found


def _value(content: Content) -> str | bytes:
    (part,) = content.parts
    return part.text if isinstance(part, Text) else part.read_bytes()


class Clock:
    """Moments at which a step is over, and the seconds of a step between them."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def tick(self) -> None:
        if best_device() == "cuda":
            torch.cuda.synchronize()
        self.moments.append(time.perf_counter())

    def step_seconds(self) -> float:
        """The mean over all steps but the first, which starts everything up."""
        return (self.moments[-1] - self.moments[0]) / (len(self.moments) - 1)


class Ours:
    """`ContrastiveStage` under Lightning's trainer on batches of the mixture, as `commonspace train` runs it."""

    def __init__(self, case: Case) -> None:
        self.case, self.embedder = case, compact_model(case.weights, ("image",))
        if case.cache is not None:
            attach_features(self.embedder, case.cache)

    def __call__(self) -> float:
        case, clock = self.case, Clock()
        stage = plain_stage(self.embedder, case.task, steps=case.steps, bf16=case.bf16)
        trainer = bare_trainer(case.steps, _LightningClock(clock))
        self.embedder.train()
        trainer.fit(stage, datamodule=case.datamodule(self.embedder))
        return clock.step_seconds()

    def keeps_features(self) -> bool:
        """Whether the cache has what the frozen tower gives for these pairs."""
        module = self.case.datamodule(self.embedder)
        module.workers = 0
        return has_features(next(iter(module.loader())))


class _LightningClock(pl.Callback):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, *_: Any) -> None:
        self.clock.tick()


class SentenceTransformers:
    """`SentenceTransformerTrainer` with `MultipleNegativesRankingLoss` in both directions."""

    def __init__(self, case: Case, pairs: Sequence[Pair]) -> None:
        self.case = case
        if isinstance(pairs[0][0], str):
            self.model, kind = Peer(case.weights).text, datasets.Value("string")
        else:
            self.model = SentenceTransformer(modules=[SameBackbone(compact_model(case.weights, ("image",)))])
            kind = datasets.Image()
        columns = {"query": kind, "positive": datasets.Value("string")}
        values = [query if isinstance(query, str) else {"bytes": query, "path": None} for query, _ in pairs]
        self.rows = datasets.Dataset.from_dict(
            {"query": values, "positive": [positive for _, positive in pairs]}, datasets.Features(columns)
        )
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("word_embeddings" not in name and parameter.requires_grad)
        without_dropout(self.model)

    def __call__(self) -> float:
        case, clock = self.case, Clock()
        loss = MultipleNegativesRankingLoss(
            self.model,
            scale=1 / TEMPERATURE,
            directions=("query_to_doc", "doc_to_query"),
            partition_mode="per_direction",
        )
        with tempfile.TemporaryDirectory() as folder:
            options = SentenceTransformerTrainingArguments(
                output_dir=folder,
                max_steps=case.steps,
                per_device_train_batch_size=case.batch,
                bf16=case.bf16,
                use_cpu=best_device() == "cpu",
                learning_rate=RATE,
                weight_decay=DECAY,
                max_grad_norm=CLIP,
                dataloader_num_workers=1,
                dataloader_drop_last=True,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            )
            trainer = _Trainer(self.model, options, self.rows, loss=loss, callbacks=[_TrainerClock(clock)])
            trainer.remove_callback(PrinterCallback)  # it would print between the rows of the table
            trainer.train()
        return clock.step_seconds()


class _Trainer(SentenceTransformerTrainer):
    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: before the first step it reads the whole data set for a model card, which is no training."""


class _TrainerClock(TrainerCallback):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.tick()


class OpenClip:
    """open_clip's `train_one_epoch` with its `ClipLoss` on a two-sided model around our backbone."""

    def __init__(self, case: Case, pairs: Sequence[Pair]) -> None:
        self.case, self.pairs = case, list(pairs)
        self.model = TwoSided(SameBackbone(compact_model(case.weights, ("image",)))).to(best_device())
        without_dropout(self.model)

    def __call__(self) -> float:
        case, clock = self.case, Clock()
        loader = DataLoader(
            self.pairs, batch_size=case.batch, shuffle=True, drop_last=True, num_workers=1, collate_fn=self._collate
        )
        batches = _Ticking(loader, clock)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        options = Namespace(
            device=best_device(), precision="amp_bf16" if case.bf16 else "fp32", distill=False, accum_freq=1,
            skip_scheduler=True, grad_clip_norm=CLIP, horovod=False, log_every_n_steps=1, world_size=1, rank=0,
            batch_size=case.batch, wandb=False,
        )  # fmt: skip
        optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=DECAY)
        train_one_epoch(self.model, {"train": DataInfo(batches)}, ClipLoss(), 0, optimiser, None, None, None, options)
        return clock.step_seconds()

    def _collate(self, pairs: Sequence[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
        backbone = self.model.backbone
        images, captions = zip(*pairs, strict=True)
        pixels = backbone.preprocess([pil.open(io.BytesIO(data)) for data in images])["pixel_values"]
        return pixels, backbone.preprocess(captions)["input_ids"]


class _Ticking:
    """A loader that ticks whenever a batch but the first is asked for: then the step before is over."""

    def __init__(self, loader: DataLoader, clock: Clock) -> None:
        self.loader, self.clock = loader, clock
        self.num_batches, self.num_samples = len(loader), len(loader.dataset)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield batch
            self.clock.tick()


def without_dropout(model: nn.Module) -> None:
    """Our stages train without by default, and a mask costs time."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
