"""FLOPs of attention itself, scores and weighted sums: what grows with the square of what sees one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import nn

from commonspace.models.embedder import Embedder

if TYPE_CHECKING:
    from commonspace.planning.flops import Load


def attentions(embedder: Embedder, load: Load) -> Iterator[tuple[str, float, bool]]:
    """(part, FLOPs forwards, whether a stage stops gradients at the layer) of one content.

    Masked attention computes every score, so sliding layers of transformers count in full; `model.window` computes
    three windows a token.
    """
    for depth, layer in enumerate(embedder.backbone.layers()):
        seen = min(load.tokens, _window(layer, load.tokens))
        yield "text", 4 * load.tokens * seen * query_width(layer), depth < embedder.backbone.frozen_layers
    model = getattr(embedder.backbone, "model", None)
    towers = embedder.backbone.towers()
    if model is not None and "image" in towers:
        yield "vision", sum(_eyes(model.config.vision_config, step) for step in load.patches), False
    if "audio" in towers:
        config = model.config.audio_config if model is not None else towers["audio"].encoder.config
        yield "audio", sum(_ears(config, frames) for frames in load.sounds), False


def _window(layer: nn.Module, tokens: int) -> int:
    """Tokens that a token is scored against."""
    windows = [module.window for module in layer.modules() if getattr(module, "window", None)]
    return 3 * windows[0] if windows and tokens > windows[0] + 1 else tokens


def query_width(layer: nn.Module) -> int:
    """Numbers of all heads' queries together."""
    for name, module in layer.named_modules():
        if name.endswith(("q_proj", ".query")):
            return module.out_features
        if isinstance(module, nn.MultiheadAttention):
            return module.embed_dim
    raise AssertionError(f"{type(layer).__name__} has no queries")


def _eyes(config: Any, patches: int) -> float:
    """Of one step of a picture: all its patches see one another, but in layers that look through windows."""
    heads = getattr(config, "head_dim", None)
    width = config.num_attention_heads * heads if heads else config.hidden_size
    depth = getattr(config, "depth", None) or config.num_hidden_layers
    whole = len(getattr(config, "fullatt_block_indexes", range(depth)))
    window = (getattr(config, "window_size", 0) // config.patch_size) ** 2 or patches
    return 4 * width * patches * (whole * patches + (depth - whole) * min(window, patches))


def _ears(config: Any, frames: int) -> float:
    """Of one sound: stretches of it see themselves (Whisper's window, chunks of Qwen's and Gemma's)."""
    if hasattr(config, "attention_chunk_size"):  # Gemma's: scores by content and by distance, then the sum
        seen = config.attention_chunk_size + config.attention_context_left - 1 + config.attention_context_right
        return 2 * config.hidden_size * config.num_hidden_layers * frames / 4 * (2.5 * seen + 1)
    if hasattr(config, "n_window_infer"):  # Qwen3-Omni
        positions, stretch = frames / 8, config.n_window_infer / 8
    elif hasattr(config, "n_window"):
        positions, stretch = frames / 2, config.n_window
    else:
        positions, stretch = frames / 2, config.max_source_positions
    return 4 * config.d_model * config.encoder_layers * positions * min(positions, stretch)
