"""EmbeddingGemma 2's own text transformer, our towers around it.

transformers' `EmbeddingGemma2TextModel` is bidirectional as it comes: full layers, and sliding ones with a window on
either side. Its states are projected to the embedding's width token by token, so their mean is the model's own vector.
Media come from our towers through connectors of our own, which start untrained; the folder's vision and audio towers
are not read: `embedding_gemma2_whole.py` has those.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers  # loads a class when it is asked for
from transformers import PreTrainedModel

from commonspace.errors import WeightsError
from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone
from commonspace.models.backbones.pretrained import model_type, read_config, read_model


class EmbeddingGemma2Backbone(InputsEmbedsBackbone):
    """`width` is that of the embedding (768), `input_width` that of the transformer (512)."""

    name = "embedding_gemma2"
    pretrained = "google/embeddinggemma-2"
    linear_maps = (
        r"layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj"
        r"|ple_block\.(per_layer_input_gate|per_layer_projection))"
    )

    @classmethod
    def read_text(cls, folder: Path) -> PreTrainedModel:
        if (found := model_type(folder)) != cls.name:
            raise WeightsError(f"{folder}: model_type {found!r} is not {cls.name}")
        config = read_config(transformers.EmbeddingGemma2Config, folder)
        config.vision_config = config.audio_config = None  # then their tensors are left on disk
        return read_model(transformers.EmbeddingGemma2Model, folder, config).language_model

    @classmethod
    def text_of(cls, config: Mapping[str, Any]) -> PreTrainedModel:
        return transformers.EmbeddingGemma2TextModel(transformers.EmbeddingGemma2TextConfig(**config))

    @staticmethod
    def output_width(text: PreTrainedModel) -> int:
        return text.config.embedding_dim
