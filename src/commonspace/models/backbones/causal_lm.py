"""A pretrained decoder made bidirectional: Qwen3 or Gemma 3 as the transformer, our towers around it.

transformers builds a decoder's masks in `masking_utils` and takes `config.is_causal = False` for bidirectional ones;
`merge_with_config_defaults` hands the same flag to the attention, which otherwise takes a batch without padding, where
no mask is made, for a causal one. Both lie in transformers, so no modelling code is copied.

Full layers see every token. Sliding layers (five of six in Gemma 3) keep their window on either side, |i - j| <= w:
distances stay those the layer was trained at, and a content of up to w + 1 tokens is seen whole (w = 512 in the small
Gemmas). A folder trained with `use_bidirectional_attention` (EmbeddingGemma) keeps its own half as wide window instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from commonspace.errors import WeightsError
from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone
from commonspace.models.backbones.pretrained import model_type, read_config, read_model

# Config and model by the model_type of config.json, by name: transformers loads a class when it is asked for. Each is
# held to be bidirectional by tests/models/backbones/test_causal_lm.py.
DECODERS = {"qwen3": ("Qwen3Config", "Qwen3Model"), "gemma3_text": ("Gemma3TextConfig", "Gemma3TextModel")}


class CausalLMBackbone(InputsEmbedsBackbone):
    """A decoder without its language head, attending both ways."""

    name = "causal_lm"
    pretrained = "Qwen/Qwen3-0.6B"
    linear_maps = r"layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"

    @classmethod
    def read_text(cls, folder: Path) -> PreTrainedModel:
        config_class, model_class = _decoder(model_type(folder), folder)
        return read_model(model_class, folder, bidirectional(read_config(config_class, folder)))

    @classmethod
    def text_of(cls, config: Mapping[str, Any]) -> PreTrainedModel:
        config_class, model_class = _decoder(config.get("model_type"), "config.json")
        return model_class(bidirectional(config_class(**config)))


def bidirectional(config: PreTrainedConfig) -> PreTrainedConfig:
    """The same config, its model attending both ways and keeping no keys for generation."""
    if not getattr(config, "use_bidirectional_attention", False):
        config.is_causal = False
    config.use_cache = False
    return config


def _decoder(kind: object, where: object) -> tuple[type[PreTrainedConfig], type[PreTrainedModel]]:
    if kind not in DECODERS:
        raise WeightsError(f"{where}: model_type {kind!r} is no decoder known here; known are {', '.join(DECODERS)}")
    config_class, model_class = DECODERS[kind]
    return getattr(transformers, config_class), getattr(transformers, model_class)
