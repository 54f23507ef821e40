"""The kinds of backbone, by the name that configs and model folders give them."""

from __future__ import annotations

from commonspace.models.backbones.causal_lm import CausalLMBackbone
from commonspace.models.backbones.compact import CompactBackbone
from commonspace.models.backbones.embedding_gemma2 import EmbeddingGemma2Backbone
from commonspace.models.backbones.embedding_gemma2_whole import EmbeddingGemma2WholeBackbone
from commonspace.models.backbones.gemma3 import Gemma3Backbone
from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone
from commonspace.models.backbones.native import NativeBackbone
from commonspace.models.backbones.omni import OmniBackbone, Qwen3OmniBackbone, Qwen3VLBackbone
from commonspace.models.backbones.open_clip_text import OpenClipTextBackbone

# A text transformer with towers of our choice around it, or a multimodal one whole.
BACKBONES: dict[str, type[InputsEmbedsBackbone] | type[NativeBackbone]] = {
    kind.name: kind
    for kind in (
        CompactBackbone, CausalLMBackbone, EmbeddingGemma2Backbone, OpenClipTextBackbone,
        OmniBackbone, Qwen3OmniBackbone, Qwen3VLBackbone, EmbeddingGemma2WholeBackbone, Gemma3Backbone,
    )
}  # fmt: skip
