"""The compact native backbone: an e5-style encoder that also reads image and audio tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel

from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone


class CompactBackbone(InputsEmbedsBackbone):
    """A BERT-style encoder, bidirectional as it comes; its position and type embeddings go to every token alike."""

    name = "compact"
    pretrained = "multilingual-e5-small"
    linear_maps = (
        r"encoder\.layer\.\d+\."
        r"(attention\.self\.(query|key|value)|attention\.output\.dense|(intermediate|output)\.dense)"
    )

    @classmethod
    def read_text(cls, folder: Path) -> BertModel:
        return BertModel.from_pretrained(
            folder, add_pooling_layer=False, attn_implementation="sdpa", dtype=torch.float32
        )

    @classmethod
    def text_of(cls, config: Mapping[str, Any]) -> BertModel:
        return BertModel(BertConfig(**config), add_pooling_layer=False)

    def layers(self) -> list[nn.Module]:
        return list(self.text.encoder.layer)
