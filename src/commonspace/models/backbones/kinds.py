"""The kinds of backbone, by the name that configs and model folders give them."""

from __future__ import annotations

from commonspace.models.backbones.causal_lm import CausalLMBackbone
from commonspace.models.backbones.compact import CompactBackbone
from commonspace.models.backbones.embedding_gemma2 import EmbeddingGemma2Backbone
from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone
from commonspace.models.backbones.open_clip_text import OpenClipTextBackbone

BACKBONES: dict[str, type[InputsEmbedsBackbone]] = {
    kind.name: kind for kind in (CompactBackbone, CausalLMBackbone, EmbeddingGemma2Backbone, OpenClipTextBackbone)
}
