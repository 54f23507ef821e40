"""Before a tower reads a new modality: its connector learns to speak in word embeddings.

A connector starts random, and a pretrained transformer makes nothing of its tokens; training both at once moves the
transformer first. Here the transformer stays out: the mean of a medium's tokens, as they would enter it, is matched to
the weighted mean of its text's word embeddings. A step costs a hundredth of one through the tower.
This stage is ours, not the paper's; docs/log.md has what it is worth.
"""

from __future__ import annotations

import json

import torch

from commonspace.data.datamodule import Batch
from commonspace.errors import ConfigError
from commonspace.models.embedder import Embedder
from commonspace.processing.pieces import Pieces
from commonspace.stages.contrastive import ContrastiveStage

_COMMON = 1e-4  # words more frequent than this count for less: a / (a + p), Arora et al. 2017


class AlignStage(ContrastiveStage):
    """Trains connectors alone, on tasks from a medium to a text; everything else is frozen.

    Both sides are centred on the batch's texts. The head takes no part, so an objective over Matryoshka sizes raises.
    """

    has_negatives = False

    def __init__(self, embedder: Embedder, *arguments, **options) -> None:
        super().__init__(embedder, *arguments, **options)
        if self.objective.sizes:
            raise ConfigError("stage align has no head whose prefixes could be trained; set objective.matryoshka=false")
        embedder.requires_grad_(False)
        for connector in embedder.backbone.connectors():
            connector.requires_grad_(True)
        self.register_buffer("word_weight_V", word_weights(embedder), persistent=False)

    def backward_batch(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Gradients of the connectors on one batch of media and their texts."""
        text_BD = torch.stack([self._bag(batch, pieces) for pieces in batch.positive])
        media_BD = torch.stack(self._media_means(batch))
        centre_D = text_BD.mean(0)
        loss, report = self.objective(
            batch.task,
            media_BD - centre_D,
            text_BD - centre_D,
            temperature=self.temperature(batch.task),
            query_ids=batch.query_ids.to(text_BD.device),
            positive_ids=batch.positive_ids.to(text_BD.device),
            group=self.group,
        )
        loss.backward()
        return loss.detach(), report

    def _media_means(self, batch: Batch) -> list[torch.Tensor]:
        """Mean embedding of each query's media tokens as they enter the transformer, marks and specials left out."""
        input_BLD, _ = self.embedder.backbone.assemble(batch.query)
        means = []
        for row, pieces in enumerate(batch.query):
            start, places = 0, []
            for piece in pieces.pieces:
                if piece.kind in ("image", "audio"):
                    places += range(start, start + piece.tokens)
                start += piece.tokens
            if not places:
                raise ConfigError(f"task {batch.task}: {batch.sources[row]} has no media to align; use pretrain")
            means.append(input_BLD[row, places].mean(0))
        return means

    def _bag(self, batch: Batch, pieces: Pieces) -> torch.Tensor:
        """Weighted mean word embedding [D] of a text."""
        if any(piece.kind != "text" for piece in pieces.pieces):
            raise ConfigError(f"task {batch.task}: alignment goes from a medium to a text; take the task out")
        ids_L = torch.cat([piece.value for piece in pieces.pieces]).to(self.word_weight_V.device)
        weights_L = self.word_weight_V[ids_L]
        words_LD = self.embedder.backbone.text.get_input_embeddings().weight.detach()[ids_L]
        return (weights_L[:, None] * words_LD).sum(0) / weights_L.sum().clamp(min=1e-9)


def word_weights(embedder: Embedder) -> torch.Tensor:
    """Weight of each word piece [V], by the tokenizer's own unigram log-probabilities; 1 where it has none.

    Special tokens weigh nothing.
    """
    tokenizer = embedder.processor.tokenizer.tokenizer
    vocabulary = json.loads(tokenizer.to_str())["model"]["vocab"]
    size = embedder.backbone.text.get_input_embeddings().num_embeddings
    weights_V = torch.ones(size)
    if isinstance(vocabulary, list):  # a unigram model: [piece, log-probability]
        logs = torch.tensor([score for _, score in vocabulary[:size]])
        weights_V[: len(logs)] = _COMMON / (_COMMON + logs.exp())
    for special in (*embedder.processor.tokenizer.start, *embedder.processor.tokenizer.end):
        weights_V[special] = 0.0
    return weights_V
