"""Before a tower reads a new modality: its connector learns to speak to the head, past the transformer.

A connector starts random, and a pretrained transformer makes nothing of its tokens; training both at once moves the
transformer first. Here the transformer stays out of the medium's way: the connector's summary of it goes through the
input half of the head, and meets its text's vector from the frozen encoder. A step costs a hundredth of one through
the tower, so many epochs are cheap. This stage is ours, not the paper's; docs/log.md has what it is worth.
"""

from __future__ import annotations

import torch
from torch import nn

from commonspace.data.datamodule import Batch
from commonspace.errors import ConfigError
from commonspace.models.embedder import Embedder, token_batches
from commonspace.models.pooling import summary_pool
from commonspace.stages.contrastive import ContrastiveStage


class AlignStage(ContrastiveStage):
    """Trains connectors and head on tasks from a medium to a text; everything else is frozen.

    A medium's output half is held at the batch's mean of texts: the untrained path says nothing yet. Texts are encoded
    once each. Needs pooling input_and_last; a batch without media, or with media for a target, raises ConfigError.
    """

    has_negatives = False

    def __init__(self, embedder: Embedder, *arguments, **options) -> None:
        if embedder.pooling != "input_and_last":
            raise ConfigError(
                f"stage align trains the input half of the head, and pooling {embedder.pooling} has none; "
                "set model.pooling=input_and_last or go straight to pretrain"
            )
        super().__init__(embedder, *arguments, **options)
        embedder.requires_grad_(False)
        embedder.head.requires_grad_("head" not in self.settings.freeze)
        for connector in embedder.backbone.connectors():
            connector.requires_grad_(True)
            connector.dropout.p = self.settings.dropout
        self._texts: dict[int, torch.Tensor] = {}

    def on_train_end(self) -> None:
        """Later stages train without this one's dropout."""
        for connector in self.embedder.backbone.connectors():
            connector.dropout.p = 0.0

    def backward_batch(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Gradients of connectors and head on one batch of media and their texts."""
        text_BP = self._text_vectors(batch)
        media_BP = self._media_vectors(batch, text_BP[:, -self.embedder.backbone.width :].mean(0))
        mean_P = self.embedder.pooled_mean_P
        text_BP = mean_P + nn.functional.dropout(text_BP - mean_P, self.settings.dropout, self.training)
        vectors_BE = self.embedder.project(torch.cat([media_BP, text_BP])).float()
        loss, report = self.loss_of(batch, vectors_BE)
        loss.backward()
        return loss.detach(), report

    def _media_vectors(self, batch: Batch, output_D: torch.Tensor) -> torch.Tensor:
        """What each query brings to the transformer, beside the given output [B, 2 D]."""
        for source, pieces in zip(batch.sources, batch.query, strict=True):
            if not any(piece.kind in ("image", "audio") for piece in pieces.pieces):
                raise ConfigError(f"task {batch.task}: {source} has no media to align; use pretrain")
        entered_BD = summary_pool(*self.embedder.backbone.summaries(batch.query))
        return torch.cat([entered_BD, output_D.expand_as(entered_BD)], dim=1)

    @torch.no_grad()
    def _text_vectors(self, batch: Batch) -> torch.Tensor:
        """Pooled vectors [B, 2 D] of the targets from the frozen encoder, each distinct text encoded once."""
        ids = batch.positive_ids.tolist()
        new = {key: pieces for key, pieces in zip(ids, batch.positive, strict=True) if key not in self._texts}
        if any(piece.kind != "text" for pieces in new.values() for piece in pieces.pieces):
            raise ConfigError(f"task {batch.task}: alignment goes from a medium to a text; take the task out")
        keys, contents = list(new), list(new.values())
        self.embedder.backbone.text.eval()
        for rows in token_batches([pieces.tokens for pieces in contents], self.settings.cache_tokens):
            pooled = self.embedder.pool([contents[row] for row in rows])
            self._texts.update((keys[row], vector) for row, vector in zip(rows, pooled, strict=True))
        return torch.stack([self._texts[key] for key in ids])
