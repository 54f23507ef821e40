"""A dual tower trained by open_clip: its model, its `ClipLoss`, its schedule and its loop over batches.

The trunk of pictures is locked, as in every model of ours at this size, so each picture goes through it once. Texts'
transformer is locked first (both projections learn from what the towers give), then trains with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.progress import track

from commonspace.data.sample import Record
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.evaluation.dual_tower import DualTower
from commonspace.evaluation.frozen import texts_of
from commonspace.evaluation.late_fusion import record_batches, variants_of
from commonspace.evaluation.late_fusion_grid import Settings
from commonspace.evaluation.suite import build_suite
from commonspace.files import write_text
from commonspace.models.device import best_device
from commonspace.models.precision import resolve_precision
from commonspace.processing.preprocessing import Preprocessing
from commonspace.rivals.tries import Given, Try, best_of, dev_score_of

TASK = "image_caption"
_VARIANTS = 4  # captions of a picture, as late fusion has
_GROUP = 32  # texts of like length that go through their transformer at once
_EVERY = 10  # steps between two lines of the log
_PRECISIONS = {"32-true": "fp32", "bf16-mixed": "amp_bf16"}  # open_clip's words for them


@dataclass(frozen=True)
class Pairs:
    """Pictures [N] by digest and their captions [N]; pairs of one record are drawn one an epoch."""

    pictures: tuple[int, ...]
    captions: tuple[str, ...]
    records: torch.Tensor


class Log:
    """What open_clip's loop writes to TensorBoard, as lines of JSON."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.part = ""

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """One number of one step; those of a step share a line."""
        now = {"part": self.part, "step": step}
        if not self.lines or not now.items() <= self.lines[-1].items():
            self.lines.append(now)
        self.lines[-1][name] = float(value)

    def write(self, path: Path) -> None:
        """All lines so far."""
        write_text(path, "".join(json.dumps(line) + "\n" for line in self.lines))


class Loader:
    """What open_clip's loop asks of a data loader."""

    def __init__(self, batches: Sequence[torch.Tensor], take: Callable[[torch.Tensor], Any], description: str) -> None:
        self.batches, self.take, self.description = batches, take, description
        self.num_batches, self.num_samples = len(batches), sum(map(len, batches))

    def __iter__(self) -> Iterator[Any]:
        return (self.take(batch) for batch in track(self.batches, description=self.description))


def train_clip(options: Mapping[str, Any], given: Given, folder: Path) -> list[Try]:
    """Train a dual tower as `configs/rival/clip.yaml` says, and save it to `folder`; returns what was tried on dev."""
    torch.manual_seed(given.seed)
    tower = DualTower.from_weights(
        given.pretrained(options["vision"]),
        given.pretrained(options["text"]),
        size=options["image_size"],
        max_pixels=Preprocessing().image_max_pixels,
        embedding_size=options["embedding_size"],
    )
    tower.model.to(best_device())
    dev = dev_score_of(build_suite(given.data, "dev", [TASK], given.dev_limit))
    reader = ShardReader(given.data / TASK, "train")
    pairs = pairs_of(tower, [reader.read(row) for row in range(given.rows(reader))])
    log, model = Log(), tower.model
    precision = _PRECISIONS[resolve_precision(options["precision"])]

    def fit(take: Callable[[torch.Tensor], Any], steps: int, batch_size: int, rate: float, part: str) -> None:
        drawn = Settings(steps=steps, batch_size=batch_size)
        batches = list(record_batches(pairs.records.numpy(), drawn, torch.Generator().manual_seed(given.seed)))
        loader = Loader(batches, take, f"{part}, learning rate {rate:g}")
        train_once(model, loader, rate, options["weight_decay"], options["warmup"], precision, log)

    def locked(rate: float) -> None:
        with reduced(model, text=True):
            fit(rows, options["locked_steps"], options["batch_size"], rate, "projections")

    def whole(rate: float) -> None:
        with reduced(model, text=False):
            fit(tokens, options["text_steps"], options["text_batch_size"], rate, "texts' transformer")

    pooled = pooled_texts(tower, pairs.captions)

    def rows(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _rows(tower, pairs, batch), torch.stack([pooled[pairs.captions[row]] for row in batch.tolist()])

    def tokens(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ids_NL = tower.tokens([pairs.captions[row] for row in batch.tolist()])
        return _rows(tower, pairs, batch), ids_NL[:, : options["text_tokens"]]

    lock(tower)
    tried = best_of(model, options["learning_rates"], locked, lambda: dev(tower), "projections", given.seed)
    unlock_text(tower)
    if options["text_steps"]:
        tried += best_of(model, options["text_learning_rates"], whole, lambda: dev(tower), "text", given.seed, tried[0])
    tower.model.eval()
    tower.save(folder)
    log.write(folder / "metrics.jsonl")
    return tried


def pairs_of(tower: DualTower, records: Sequence[Record]) -> Pairs:
    """The pairs of records, some captions each, and the trunk's rows of their pictures inside `tower`."""
    found = [
        (number, record.queries[0].content, "\n".join(texts_of(positive.content)))
        for number, record in enumerate(records)
        for positive in variants_of(record, _VARIANTS, number)
    ]
    if len(records) < 2:
        raise DataError(f"{TASK}: {len(records)} training records; a dual tower needs two at least")
    tower.rows([content for _, content, _ in found], progress=True)
    digests = tuple(content.digest() for _, content, _ in found)
    return Pairs(digests, tuple(caption for *_, caption in found), torch.tensor([number for number, *_ in found]))


@torch.no_grad()
def pooled_texts(tower: DualTower, captions: Sequence[str]) -> dict[str, torch.Tensor]:
    """What the transformer gives for each distinct caption, before its projection [D]."""
    distinct, text = sorted(set(captions), key=len), tower.model.text.eval()
    known: dict[str, torch.Tensor] = {}
    chunks = [distinct[start : start + 256] for start in range(0, len(distinct), 256)]
    projection, text.proj = text.proj, torch.nn.Identity()
    try:
        for chunk in track(chunks, description="captions"):
            ids_NL = tower.tokens(chunk).to(tower.model.logit_scale.device)
            known.update(zip(chunk, text(ids_NL).cpu(), strict=True))
    finally:
        text.proj = projection
    return known


def _rows(tower: DualTower, pairs: Pairs, batch: torch.Tensor) -> torch.Tensor:
    return torch.stack([tower.trunk_rows[pairs.pictures[row]] for row in batch.tolist()])


class ByLength(torch.nn.Module):
    """A tower of texts that takes rows of like length together, each group as wide as its own longest.

    Captions have 12 tokens on average and 115 at most, so a batch as one block is mostly padding. Dropout aside, the
    vectors are those of all rows at once.
    """

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower, self.config = tower, tower.config

    def forward(self, ids_NL: torch.Tensor) -> torch.Tensor:
        """Vectors [N, E] of token ids [N, L], padded at the right."""
        lengths_N = (ids_NL != self.config.pad_token_id).sum(1)
        order_N = lengths_N.argsort()
        groups = [self.tower(ids_NL[group, : int(lengths_N[group].max())]) for group in order_N.split(_GROUP)]
        return torch.cat(groups)[order_N.argsort()]


@contextmanager
def reduced(model: Any, *, text: bool) -> Iterator[None]:
    """Inside, the model takes the trunk's rows for pictures, for texts the transformer's or, without `text`, ids."""
    visual, whole = model.visual, model.text
    model.visual = visual.head
    model.text = whole.proj if text else ByLength(whole)
    try:
        yield
    finally:
        model.visual, model.text = visual, whole


def lock(tower: DualTower) -> None:
    """Of both towers the projections alone train."""
    tower.model.visual.lock()  # batch norms stand still too: pictures go through the trunk in evaluation alone
    tower.model.text.transformer.requires_grad_(False)


def unlock_text(tower: DualTower) -> None:
    """The transformer of texts trains but for its word embeddings, as in our own stages."""
    tower.model.text.transformer.requires_grad_(True)
    tower.model.text.transformer.get_input_embeddings().requires_grad_(False)


def optimiser_of(model: torch.nn.Module, rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW as open_clip's training makes it: beta2 .98, no decay of gains, biases and the logit scale."""
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    plain = [weight for name, weight in trained if weight.ndim < 2 or "bias" in name or "logit_scale" in name]
    matrices = [weight for _, weight in trained if all(weight is not one for one in plain)]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": matrices, "weight_decay": weight_decay}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-6)


def train_once(
    model: Any, loader: Loader, rate: float, weight_decay: float, warmup: float, precision: str, log: Log
) -> None:
    """One pass of open_clip's own loop over the batches, with its loss and its schedule."""
    from open_clip.loss import ClipLoss
    from open_clip_train.data import DataInfo
    from open_clip_train.scheduler import cosine_lr
    from open_clip_train.train import train_one_epoch

    log.part, optimiser = loader.description, optimiser_of(model, rate, weight_decay)
    steps = loader.num_batches
    schedule = cosine_lr(optimiser, rate, max(1, round(warmup * steps)), steps)
    arguments = SimpleNamespace(
        device=str(model.logit_scale.device), precision=precision, accum_freq=1, batch_size=len(loader.batches[0]),
        grad_clip_norm=None, log_every_n_steps=_EVERY, rank=0, world_size=1, distill=False, horovod=False,
        skip_scheduler=False, wandb=False,
    )  # fmt: skip
    train_one_epoch(
        model, {"train": DataInfo(loader)}, ClipLoss(), 0, optimiser, None, schedule, None, arguments, tb_writer=log
    )
