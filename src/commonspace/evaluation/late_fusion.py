"""Late fusion, the baseline to beat: frozen encoders, one small head a modality, trained on the same rows.

Each modality's pooled frozen features (`frozen.py`) go through an MLP of their own into a shared space, by the same
loss the model is trained with, taken both ways, with the same masks and the same weight averaging. It is tuned on dev
over as many settings as the model gets, and run with several seeds. For composed queries there are two forms: the sum
of the parts' vectors, and an MLP over the parts' features together, both trained on composed rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from rich.progress import track
from torch import nn

from commonspace.content import Content
from commonspace.data.sample import Record
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.frozen import FrozenFeatures, Kind
from commonspace.evaluation.late_fusion_grid import Settings
from commonspace.models.averaging import RunningAverage
from commonspace.models.dropout import Dropout

Fusion = Literal["single", "sum", "mlp"]
_ROWS = 8192  # embedded at once: bounds the hidden layer's memory


@dataclass(frozen=True)
class TrainingRows:
    """Pairs as frozen features. Arrays have one row per pair; a query may have several kinds of part.

    query {kind: float32 [N, width]}, positive the same; query_ids and positive_ids int64 [N] for the mask;
    records [N]: rows of one record are drawn one an epoch, so languages take turns.
    """

    query: dict[Kind, np.ndarray]
    positive: dict[Kind, np.ndarray]
    query_ids: np.ndarray
    positive_ids: np.ndarray
    records: np.ndarray


def kinds_of(content: Content) -> tuple[Kind, ...]:
    """The kinds of part a late-fusion model sees in a content, in alphabetical order; documents are their texts."""
    names = {"text" if name == "document" else name for name in content.modalities}
    return tuple(sorted(names))  # type: ignore[arg-type]


def training_rows(
    features: FrozenFeatures, records: Sequence[Record], variants: int = 4, progress: bool = False
) -> TrainingRows:
    """Pairs of the records with up to `variants` languages each: the canonical one, then others by turns."""
    pairs = [
        (number, record.queries[0].content, positive.content)
        for number, record in enumerate(records)
        for positive in variants_of(record, variants, number)
    ]
    if not pairs:
        raise DataError("late fusion has no training rows; build the train split of its tasks first")
    queries, positives = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    return TrainingRows(
        query=_features(features, queries, progress),
        positive=_features(features, positives, progress),
        query_ids=np.array([content.digest() for content in queries], dtype=np.int64),
        positive_ids=np.array([content.digest() for content in positives], dtype=np.int64),
        records=np.array([pair[0] for pair in pairs], dtype=np.int64),
    )


def variants_of(record: Record, variants: int, number: int) -> list:
    """The first positive and up to `variants` - 1 others, which begin at another one for every `number`."""
    others = record.positives[1:]
    turn = number % max(1, len(others))
    return [record.positives[0], *(others[turn:] + others[:turn])[: variants - 1]]


def _features(features: FrozenFeatures, contents: Sequence[Content], progress: bool) -> dict[Kind, np.ndarray]:
    kinds = {kinds_of(content) for content in contents}
    if len(kinds) != 1:
        raise DataError(f"late fusion takes one kind of content a side, not {sorted(kinds)}")
    return {kind: features.vectors(contents, kind, progress) for kind in kinds.pop()}


class Head(nn.Module):
    """Standardised frozen features to the shared space: a linear map plus a gated MLP beside it.

    mean and scale are of the training rows; features that never vary are left at zero.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features_NF: np.ndarray, settings: Settings) -> None:
        super().__init__()
        width, size = features_NF.shape[1], settings.embedding_size
        deviation = features_NF.std(0)
        self.register_buffer("mean", torch.from_numpy(features_NF.mean(0)))
        scale = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0)
        self.register_buffer("scale", torch.from_numpy(scale.astype(np.float32)))
        self.dropout = Dropout(settings.dropout)
        self.linear = nn.Linear(width, size)
        self.hidden = nn.Sequential(
            nn.Linear(width, settings.hidden), nn.GELU(), Dropout(settings.dropout), nn.Linear(settings.hidden, size)
        )

    def forward(self, features_BF: torch.Tensor) -> torch.Tensor:
        """[B, width] -> [B, E], not normalised."""
        inputs_BF = self.dropout((features_BF - self.mean) * self.scale)
        return self.linear(inputs_BF) + self.hidden(inputs_BF)


class LateFusionHeads(nn.Module):
    """Heads by kind, and for `mlp` one over the composed query's parts together."""

    def __init__(self, rows: TrainingRows, settings: Settings, fusion: Fusion) -> None:
        super().__init__()
        self.fusion, self.query_kinds = fusion, tuple(sorted(rows.query))
        if (fusion == "single") != (len(self.query_kinds) == 1):
            raise ConfigError(f"fusion={fusion} does not fit queries of {self.query_kinds}")
        # The same kind on both sides shares its head, unless the query is composed: "French" is no caption.
        sides = {f"query_{kind}": rows.query[kind] for kind in self.query_kinds}
        if fusion == "mlp":
            sides = {"query": np.concatenate([rows.query[kind] for kind in self.query_kinds], axis=1)}
        self.heads = nn.ModuleDict({name: Head(features, settings) for name, features in sides.items()})
        for kind, features in rows.positive.items():
            if fusion != "single" or kind not in rows.query:
                self.heads[f"item_{kind}"] = Head(features, settings)

    def forward(self, parts: Mapping[Kind, torch.Tensor], is_query: bool | None = None) -> torch.Tensor:
        """Unit vectors [B, E]. `is_query` None: decided by the kinds of part."""
        kinds = tuple(sorted(parts))
        if is_query is None:
            is_query = kinds == self.query_kinds
        if is_query and self.fusion == "mlp":
            vectors = self.heads["query"](torch.cat([parts[kind] for kind in kinds], dim=1))
        elif is_query:
            each = [self.heads[f"query_{kind}"](parts[kind]) for kind in kinds]
            vectors = torch.stack([_unit(vector) for vector in each]).sum(0)
        else:
            name = f"item_{kinds[0]}"
            vectors = self.heads[name if name in self.heads else f"query_{kinds[0]}"](parts[kinds[0]])
        return _unit(vectors)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(vectors.float(), dim=-1)


def symmetric_loss(
    query_BE: torch.Tensor,
    positive_BE: torch.Tensor,
    temperature: float,
    query_ids: torch.Tensor,
    positive_ids: torch.Tensor,
) -> torch.Tensor:
    """`bidirectional_nce` of unit vectors by one matrix of similarities: no options, no figures, a third of its time.

    query_ids and positive_ids int64 [B]: equal ones are never negatives of each other.
    """
    same_BB = (query_ids[:, None] == query_ids) | (positive_ids[:, None] == positive_ids)
    same_BB.fill_diagonal_(False)
    logits_BB = (query_BE / temperature @ positive_BE.T).masked_fill(same_BB, -torch.inf)
    own_B = torch.arange(len(query_BE))
    return nn.functional.cross_entropy(logits_BB, own_B) + nn.functional.cross_entropy(logits_BB.T, own_B)


def train_heads(
    rows: TrainingRows,
    settings: Settings,
    seed: int,
    fusion: Fusion = "single",
    progress: bool = False,
    precision: str = "32-true",
) -> LateFusionHeads:
    """Train one baseline from its seed; returns the averaged weights, in evaluation mode.

    `precision` is 32-true, or bf16-mixed for the heads' products alone: weights, loss and optimiser stay float32.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = LateFusionHeads(rows, settings, fusion)
        average = RunningAverage(decay=settings.decay)
        optimiser = torch.optim.AdamW(
            heads.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        batches = list(record_batches(rows.records, settings, generator))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, settings.learning_rate, total_steps=len(batches) + 1, pct_start=0.1
        )
        tensors = _Tensors(rows)
        for batch in track(batches, description=f"late fusion, seed {seed}", disable=not progress):
            query, positive, query_ids, positive_ids = tensors.take(batch)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
                vectors = heads(query, is_query=True), heads(positive, is_query=False)
            loss = symmetric_loss(*vectors, settings.temperature, query_ids, positive_ids)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            average.update(dict(heads.state_dict()))
    heads.load_state_dict(average.value())
    return heads.eval()


class _Tensors:
    """Training rows as tensors, cut by row."""

    def __init__(self, rows: TrainingRows) -> None:
        self.query = {kind: torch.from_numpy(values) for kind, values in rows.query.items()}
        self.positive = {kind: torch.from_numpy(values) for kind, values in rows.positive.items()}
        self.query_ids, self.positive_ids = torch.from_numpy(rows.query_ids), torch.from_numpy(rows.positive_ids)

    def take(self, batch: torch.Tensor) -> tuple[dict, dict, torch.Tensor, torch.Tensor]:
        query = {kind: values[batch] for kind, values in self.query.items()}
        positive = {kind: values[batch] for kind, values in self.positive.items()}
        return query, positive, self.query_ids[batch], self.positive_ids[batch]


def record_batches(records: np.ndarray, settings: Settings, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Epoch after epoch each record once, one of its rows drawn, in random order; ragged last batches are left out."""
    order = np.argsort(records, kind="stable")
    starts = np.flatnonzero(np.diff(records[order], prepend=-1))
    counts = torch.from_numpy(np.diff(np.append(starts, len(order))))
    rows, first = torch.from_numpy(order), torch.from_numpy(starts)
    size = min(settings.batch_size, len(starts))
    made = 0
    while made < settings.steps:
        other = 1 + (torch.rand(len(starts), generator=generator) * (counts - 1)).long()
        first_drawn = torch.rand(len(starts), generator=generator) < settings.canonical
        draw = torch.where(first_drawn | (counts == 1), 0, other)
        epoch = rows[first + draw][torch.randperm(len(starts), generator=generator)]
        batches = epoch[: len(epoch) // size * size].split(size)[: settings.steps - made]
        made += len(batches)
        yield from batches


class LateFusion:
    """A trained baseline that embeds contents, as evaluation asks."""

    def __init__(self, heads: LateFusionHeads, features: FrozenFeatures) -> None:
        self.heads, self.features = heads, features

    @torch.no_grad()
    def embed(
        self, contents: Sequence[Content], *, task: str | None = None, role: str | None = None, progress: bool = False
    ) -> np.ndarray:
        """Unit vectors float32 [N, E]. Takes no prefixes: task and role must be None."""
        if task is not None or role is not None:
            raise ConfigError("late fusion takes no prefixes; evaluate it with prefix_policy=none")
        out = np.zeros((len(contents), self.heads_size), dtype=np.float32)
        by_kinds: dict[tuple[Kind, ...], list[int]] = {}
        for row, content in enumerate(contents):
            by_kinds.setdefault(kinds_of(content), []).append(row)
        for kinds, rows in by_kinds.items():
            some = [contents[row] for row in rows]
            parts = {kind: torch.from_numpy(self.features.vectors(some, kind, progress)) for kind in kinds}
            chunks = zip(*(values.split(_ROWS) for values in parts.values()), strict=True)
            out[rows] = torch.cat([self.heads(dict(zip(kinds, chunk, strict=True))) for chunk in chunks]).numpy()
        return out

    @property
    def heads_size(self) -> int:
        """Length of a vector."""
        return next(head.linear.out_features for head in self.heads.heads.values())
