"""Our model as peers' trainers take it: sentence-transformers' input module, and open_clip's model of two sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image as pil
from sentence_transformers.base.modules import InputModule
from torch import nn

from benchmarks.subject import TEMPERATURE
from commonspace import Content, Embedder, Image
from commonspace.processing.pieces import Piece, Pieces
from commonspace.processing.processor import text_piece


class SameBackbone(InputModule):
    """Our embedder as an input module of sentence-transformers: dense tensors in, one padded forward pass."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder
        for module in (embedder.backbone.text.get_input_embeddings(), embedder.backbone.vision):
            module.requires_grad_(False)
        picture = Image(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())
        self._around = embedder.processor(Content(picture)).pieces
        self._pad = -1

    @property
    def modalities(self) -> list[str]:
        return ["text", "image"]

    def preprocess(self, inputs: Sequence[str | pil.Image], prompt: str | None = None, **_: Any) -> dict[str, Any]:
        """Ids padded to the longest, int64 [N, L], or pixels, uint8 [N, 3, H, W]."""
        contents = [Content(item if isinstance(item, str) else Image(item)) for item in inputs]
        pieces = [self.embedder.processor(content).pieces for content in contents]
        if isinstance(inputs[0], str):
            ids = [piece.value for (piece,) in pieces]
            return {"input_ids": nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=self._pad)}
        return {"pixel_values": torch.stack([piece.value for parts in pieces for piece in parts if _is_image(piece)])}

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        """`sentence_embedding` [N, E]; the text share of an image is 0, of a text 1."""
        if "pixel_values" in features:
            batch = [Pieces(self._picture(pixels)) for pixels in features["pixel_values"]]
        else:
            ids_NL = features["input_ids"]
            lengths = (ids_NL != self._pad).sum(1).tolist()
            batch = [Pieces((text_piece(ids_L[:n]),)) for ids_L, n in zip(ids_NL, lengths, strict=True)]
        pooled_NP = self.embedder.pool(batch)
        vectors_NE = self.embedder.project(pooled_NP, [pieces.text_share for pieces in batch])
        return {**features, "sentence_embedding": vectors_NE}

    def _picture(self, pixels: torch.Tensor) -> tuple[Piece, ...]:
        return tuple(replace(piece, value=pixels) if _is_image(piece) else piece for piece in self._around)

    def get_embedding_dimension(self) -> int:
        return self.embedder.embedding_size

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("a benchmark saves nothing")


def _is_image(piece: Piece) -> bool:
    return piece.kind == "image"


class TwoSided(nn.Module):
    """open_clip's kind of model: features of both sides and the learned scale of their cosines."""

    def __init__(self, backbone: SameBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))

    def forward(self, images: torch.Tensor, texts: torch.Tensor) -> dict[str, torch.Tensor]:
        image_NE, text_NE = (
            nn.functional.normalize(self.backbone(side)["sentence_embedding"], dim=-1)
            for side in ({"pixel_values": images}, {"input_ids": texts})
        )
        return {"image_features": image_NE, "text_features": text_NE, "logit_scale": self.logit_scale.exp()}
