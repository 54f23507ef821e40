"""Gemma 3 with its own vision tower as a backbone, its masks full, and sliding layers with a window on either side.

transformers' `Gemma3Model` makes its masks by the text config, whose switch for bidirectional ones it takes (see
causal_lm.py), as long as it is not told which tokens are of images: that is for causal masks with blocks in them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
from transformers import PreTrainedConfig

from commonspace.models.backbones.causal_lm import bidirectional
from commonspace.models.backbones.native import NativeBackbone, token_ids
from commonspace.models.backbones.native_batch import first_media, token_inputs
from commonspace.processing.gemma3_processor import Gemma3Preprocessing, Gemma3Processor
from commonspace.processing.native_layout import NativeLayout
from commonspace.processing.pieces import Pieces


class Gemma3Backbone(NativeBackbone):
    """Images and, as images, frames; no sound."""

    name = "gemma3"
    pretrained = "google/gemma-3-4b-pt"
    tower_modules: ClassVar[dict[str, tuple[str, ...]]] = {
        "image": ("model.vision_tower", "model.multi_modal_projector")
    }
    preprocessing = Gemma3Preprocessing
    processor = Gemma3Processor
    config_class = "Gemma3Config"
    model_class = "Gemma3Model"
    model_types = ("gemma3",)

    @classmethod
    def prepare(cls, config: PreTrainedConfig, left_out: Collection[str]) -> None:
        bidirectional(config.get_text_config())
        if left_out:
            config.vision_config.num_hidden_layers = 0

    @classmethod
    def layout_of(cls, described: Mapping[str, Any]) -> NativeLayout:
        config = cls.whole_config(described)
        side = config.vision_config.image_size
        marks = token_ids(config, "boi_token_id"), token_ids(config, "eoi_token_id")
        return NativeLayout(
            "Gemma3Processor",
            side // math.isqrt(config.mm_tokens_per_image),
            {"image": marks},
            {"image": token_ids(config, "image_token_id")[0]},
            frames_per_step=1,
            square=side,
        )

    def inputs(self, batch: Sequence[Pieces], device: torch.device) -> tuple[dict[str, Any], torch.Tensor]:
        inputs, kind_BL = token_inputs(batch, self.layout, device)
        if pixels := [piece.value for piece in first_media(batch, "image")]:
            pixels_N3SS = torch.stack(pixels).to(device).float() / 255
            mean, std = (
                torch.tensor(self.described[name], device=device).view(3, 1, 1) for name in ("image_mean", "image_std")
            )
            inputs["pixel_values"] = (pixels_N3SS - mean) / std
        return inputs, kind_BL
