"""A text tower of open_clip as the backbone: CLIP's transformer, reading image and audio tokens too.

CLIP trains most of its text towers with a causal mask. Here the mask is full: every token sees every other, as all
backbones do, and only padding is hidden. A tower trained both ways (SigLIP) keeps what it was trained with, a causal
one starts from states it was not trained for; training adapts it. Positions are few, 77 in CLIP and 64 in SigLIP: that
is the limit of a content's tokens, marks and media among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from commonspace.errors import WeightsError
from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone
from commonspace.models.open_clip_tokenizer import read_tokenizer
from commonspace.models.open_clip_weights import CONFIG, load_tower, make_text, read_open_clip_config, read_tower
from commonspace.processing.text import TextTokenizer

_PROJECTION = "text_projection"  # into the space that CLIP shares with its image tower: our head stands there


@dataclass(frozen=True)
class OpenClipTextConfig:
    """What the transformer is, apart from its weights: open_clip's own settings of a text tower."""

    text_cfg: Mapping[str, Any]
    quick_gelu: bool = False

    @property
    def hidden_size(self) -> int:
        """Numbers of a token's state, under the name that configs of transformers have for it; so are the next two."""
        return self.text_cfg.get("width", 512)

    @property
    def max_position_embeddings(self) -> int:
        """Rows of the table of positions."""
        return self.text_cfg.get("context_length", 77)

    def to_diff_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class OpenClipText(nn.Module):
    """open_clip's text tower fed by embeddings, with the parts of transformers' interface that backbones use."""

    def __init__(self, config: OpenClipTextConfig) -> None:
        super().__init__()
        if config.text_cfg.get("hf_model_name"):
            raise WeightsError(
                f"{CONFIG}: its text tower is {config.text_cfg['hf_model_name']} of transformers; take that as the "
                "backbone of model=compact or model=causal_lm"
            )
        if config.text_cfg.get("embed_cls"):
            raise WeightsError(f"{CONFIG}: its text tower ends with a class token (CoCa), which is not read here")
        self.config = config
        self.tower = make_text(config.text_cfg, config.quick_gelu)

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of word embeddings."""
        return self.tower.token_embedding

    def forward(self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor | None = None) -> BaseModelOutput:
        """States [B, L, D] after the final norm; `attention_mask` [B, L] is 0 at padding, which no token sees."""
        states_BLD = inputs_embeds + self.tower.positional_embedding[: inputs_embeds.shape[1]]
        mask = None
        if attention_mask is not None:
            hidden_B1L = torch.zeros_like(attention_mask, dtype=states_BLD.dtype).masked_fill(
                attention_mask == 0, float("-inf")
            )[:, None]
            length = attention_mask.shape[1]
            mask = hidden_B1L.expand(-1, length, -1).repeat_interleave(self.tower.heads, 0)
        states_BLD = self.tower.transformer(states_BLD, attn_mask=mask)
        return BaseModelOutput(last_hidden_state=self.tower.ln_final(states_BLD))


class OpenClipTextBackbone(InputsEmbedsBackbone):
    """CLIP's text transformer attending both ways, its own positions given to every token alike.

    Adapters go on the feed-forward maps: open_clip's attention holds its maps in one tensor, which takes none.
    """

    name = "open_clip_text"
    pretrained = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    linear_maps = r"tower\.transformer\.resblocks\.\d+\.mlp\.(c_fc|c_proj)"

    @classmethod
    def read_text(cls, folder: Path) -> OpenClipText:
        told = read_open_clip_config(folder)
        text = OpenClipText(OpenClipTextConfig(told.text_cfg, told.quick_gelu))
        tensors = read_tower(folder, "text")
        kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(_PROJECTION)}
        load_tower(text.tower, kept, folder)
        return text

    @classmethod
    def text_of(cls, config: Mapping[str, Any]) -> OpenClipText:
        return OpenClipText(OpenClipTextConfig(**config))

    @classmethod
    def read_tokenizer(cls, folder: Path) -> TextTokenizer:
        return TextTokenizer(read_tokenizer(folder, read_open_clip_config(folder).text_cfg))

    def set_dropout(self, share: float) -> None:
        """Dropout of attention weights while training: open_clip's blocks have no other."""
        super().set_dropout(share)
        for module in self.text.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = share

    def layers(self) -> list[nn.Module]:
        return list(self.text.tower.transformer.resblocks)
