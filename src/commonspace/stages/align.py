"""Before a tower reads a new modality: its connector learns to speak to the head, past the transformer.

A connector starts random, and a pretrained transformer makes nothing of its tokens; training both at once moves the
transformer first. Here the transformer stays out of the medium's way: the connector's summary of it goes through the
input half of the head, and meets its text's vector from the frozen encoder. A step costs a hundredth of one through
the tower, so many epochs are cheap. This stage is ours, not the paper's; docs/log.md has what it is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
from rich.progress import track
from torch import nn

from commonspace.content import Content
from commonspace.data.datamodule import Batch
from commonspace.data.encoding import Processing
from commonspace.data.loader import TaskData
from commonspace.data.teacher import TeacherTables
from commonspace.errors import ConfigError, ContentError, DataError
from commonspace.models.dropout import dropout
from commonspace.models.embedder import Embedder
from commonspace.models.pooling import summary_pool
from commonspace.objectives.distill import InBatchTeacher
from commonspace.objectives.gather import gather_rows
from commonspace.processing.pieces import Piece, Pieces
from commonspace.stages.contrastive import ContrastiveStage

_AHEAD = 2048  # texts processed and encoded at a time, sorted by length


@dataclass(frozen=True)
class MeanRows:
    """Processing that keeps of a medium's features their mean row: all that this stage reads, and a ninth of an image's
    bytes on the way from the workers.
    """

    processor: Processing

    def __call__(self, content: Content, task: str | None = None, role: str | None = None) -> Pieces:
        pieces = self.processor(content, task=task, role=role)
        return replace(pieces, pieces=tuple(map(_mean_row, pieces.pieces)))


def _mean_row(piece: Piece) -> Piece:
    return replace(piece, value=piece.value.float().mean(0, keepdim=True)) if piece.is_feature else piece


class AlignStage(ContrastiveStage):
    """Trains connectors and head on tasks from a medium, or a text, to a text; everything else is frozen.

    A medium's output half is held at the batch's mean of texts: the untrained path says nothing yet. Texts are encoded
    once each; tasks between texts keep the head from forgetting what they need. Needs pooling input_and_last; media for
    a target, or beside queries that have none, raise ConfigError.
    """

    has_negatives = False

    @staticmethod
    def processing(processor: Processing) -> Processing:
        """The mean rows of features."""
        return MeanRows(processor)

    def __init__(self, embedder: Embedder, *arguments, **options) -> None:
        if embedder.pooling != "input_and_last":
            raise ConfigError(
                f"stage align trains the input half of the head, and pooling {embedder.pooling} has none; "
                "set model.pooling=input_and_last or go straight to pretrain"
            )
        super().__init__(embedder, *arguments, **options)
        head = [embedder.head, embedder.text_layer] if embedder.text_layer else [embedder.head]
        trained = [*embedder.backbone.connectors(), *([] if "head" in self.settings.freeze else head)]
        embedder.requires_grad_(False)
        nn.ModuleList(trained).requires_grad_(True)
        self._dropouts = [module.dropout for module in trained if not isinstance(module, nn.Linear)]
        for module in self._dropouts:
            module.p = self.settings.dropout
        if embedder.text_layer in trained and self.settings.layer_dropout is not None:
            embedder.text_layer.dropout.p = self.settings.layer_dropout
        self.teacher = TeacherTables(self.settings.teacher) if self.settings.teacher else None
        self._texts: dict[int, torch.Tensor] = {}

    def on_fit_start(self) -> None:
        """Check the teacher; encode at once the texts of tasks the run draws more samples from than they have texts.

        A batch brings few texts it has not met, and the encoder takes almost as long for few as for many.
        """
        self._check_teacher()
        data = self.trainer.datamodule
        if data.sub_batches > 1:
            raise ConfigError("data.sub_batches: alignment takes media or texts, a batch of one task; leave it at 1")
        for drawn in data.schedule():
            texts = _texts(data.data[drawn["task"]])
            if drawn["samples"] >= len(texts):
                self._encode_ahead(drawn["task"], texts, data.processor)

    def _check_teacher(self) -> None:
        """Refuse a teacher that would teach nothing, or that each process would hear of its own rows alone."""
        if self.teacher is None:
            return
        if self.group is not None:
            raise ConfigError("stage.teacher: scores are not gathered over processes; align on one, or set it to null")
        drawn = set(self.trainer.datamodule.data)
        if not drawn & set(self.teacher.tasks):
            raise ConfigError(
                f"stage.teacher: {self.teacher.folder} teaches {', '.join(self.teacher.tasks)}, and the mixture draws "
                f"{', '.join(sorted(drawn))}; set it to null"
            )

    def on_train_end(self) -> None:
        """Later stages train without this one's dropout."""
        for module in self._dropouts:
            module.p = 0.0

    def backward_batch(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Gradients of connectors and head on one batch of media, or texts, and their texts."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            positive_BP = self._text_vectors(batch.task, batch.positive_ids, batch.positive)
            if _has_media(batch):
                mean_1D = positive_BP[:, -self.embedder.backbone.width :].mean(0, keepdim=True)
                # Of the whole batch, not of this process's share: one process would have no other.
                query_BP = self._media_vectors(batch, gather_rows(mean_1D, self.group).mean(0))
            else:
                query_BP = self._text_vectors(batch.task, batch.query_ids, batch.query)
                query_BP = self._dropped(batch.task, query_BP)
            pooled_NP = torch.cat([query_BP, self._dropped(batch.task, positive_BP)])
            text_share_N = [pieces.text_share for pieces in (*batch.query, *batch.positive)]
            vectors_NE = self.embedder.project(pooled_NP, text_share_N).float()
        loss, report = self.loss_of(batch, vectors_NE)
        loss.backward()
        return loss.detach(), report

    def loss_of(self, batch: Batch, vectors_NE: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The objective, or for a task that the teacher has, how far the batch's scores are from the teacher's."""
        if self.teacher is None or batch.task not in self.teacher.tasks:
            return super().loss_of(batch, vectors_NE)
        teacher = InBatchTeacher.of(
            self.teacher.scores(batch.task, batch.query_ids, batch.positive_ids, batch.sources).to(vectors_NE.device),
            self.settings.teacher_temperature,
            batch.query_ids.to(vectors_NE.device),
            batch.positive_ids.to(vectors_NE.device),
        )
        return self.objective.distil(*vectors_NE.chunk(2), teacher=teacher, temperature=self.temperature_of(batch))

    def _dropped(self, task: str, text_BP: torch.Tensor) -> torch.Tensor:
        """Texts [B, P] with some coordinates at their means: connectors drop what they read, the head what it does."""
        mean_P, settings = self.embedder.pooled_mean_P, self.settings
        text_dropout = settings.dropout if settings.text_dropout is None else settings.text_dropout
        share = settings.task_text_dropout.get(task, text_dropout)
        return mean_P + dropout(text_BP - mean_P, share, self.training)

    def _media_vectors(self, batch: Batch, output_D: torch.Tensor) -> torch.Tensor:
        """What each query brings to the transformer, beside the given output [B, 2 D]."""
        entered_BD = summary_pool(*self.embedder.backbone.summaries(batch.query))
        return torch.cat([entered_BD, output_D.expand_as(entered_BD)], dim=1)

    @torch.no_grad()
    def _text_vectors(self, task: str, ids_B: torch.Tensor, contents: Sequence[Pieces]) -> torch.Tensor:
        """Pooled vectors [B, 2 D] of texts from the frozen encoder, each distinct text encoded once."""
        ids = ids_B.tolist()
        new = {key: pieces for key, pieces in zip(ids, contents, strict=True) if key not in self._texts}
        if any(piece.kind != "text" for pieces in new.values() for piece in pieces.pieces):
            raise ConfigError(f"task {task}: alignment goes from a medium or a text to a text; take the task out")
        self._encode(new)
        return torch.stack([self._texts[key] for key in ids])

    @torch.no_grad()
    def _encode(self, texts: Mapping[int, Pieces]) -> None:
        keys, contents = list(texts), list(texts.values())
        self.embedder.backbone.text.eval()
        for rows in self.embedder.batches(contents, self.settings.cache_tokens):
            pooled = self.embedder.pool([contents[row] for row in rows]).float()
            self._texts.update((keys[row], vector) for row, vector in zip(rows, pooled, strict=True))

    def _encode_ahead(self, task: str, texts: Mapping[int, Content], processor: Processing) -> None:
        new = [(key, content) for key, content in texts.items() if key not in self._texts]
        chunks = [new[start : start + _AHEAD] for start in range(0, len(new), _AHEAD)]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            for chunk in track(chunks, description=f"texts of {task}"):
                pieces = {}
                for key, content in chunk:
                    with suppress(ContentError):  # skipped and counted where it is drawn
                        pieces[key] = processor(content)
                self._encode(pieces)


def _texts(task: TaskData) -> dict[int, Content]:
    """The text-only contents of a task's readable records, in all variants, by their hashes."""
    texts = {}
    for row in range(task.length):
        with suppress(ContentError, DataError):  # skipped and counted where it is drawn
            record = task.reader.read(row)
            contents = (variant.content for variant in (*record.queries, *record.positives))
            texts.update({content.digest(): content for content in contents if content.is_text})
    return texts


def _has_media(batch: Batch) -> bool:
    """Whether the queries bring media: all of them or none."""
    with_media = [not pieces.is_text for pieces in batch.query]
    if any(with_media) and not all(with_media):
        source = batch.sources[with_media.index(False)]
        raise ConfigError(f"task {batch.task}: {source} has no media and other queries have; use pretrain")
    return all(with_media)
