"""Memory of one device in a training step: what stays there, and what a graph keeps for its backward pass.

What a layer keeps per position is counted in multiples of its own sizes; tests/planning/test_memory.py holds the whole
against what torch allocates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from commonspace.models.embedder import Embedder
from commonspace.planning.attention import query_width
from commonspace.planning.flops import Load

Multiples = tuple[float, float, float, float]  # of width, queries, keys and hidden layer: bytes a position and layer
# By style of layer: in float32, and under bfloat16 autocast, where every map keeps a copy of its own of what it reads.
KEPT: dict[str, tuple[Multiples, Multiples]] = {
    "plain": ((16, 8, 8, 8), (16, 4, 4, 4)),  # BERT, SigLIP: two layer norms, two maps
    "qwen2": ((24, 8, 8, 16), (26, 4, 4, 8)),  # root mean square norms, a gated feed-forward layer
    "qwen3": ((24, 16, 16, 16), (26, 10, 10, 8)),  # and norms of queries and keys
    "gemma3": ((40, 16, 16, 16), (42, 12, 12, 8)),  # and norms after attention and feed-forward layer
    "gemma2": ((57, 16, 21, 16), (56, 12, 17, 8)),  # and a gated layer for the inputs of each layer, counted as hidden
    "qwen_eyes": ((24, 12, 8, 16), (20, 8, 4, 8)),
    "qwen3_eyes": ((16, 28, 0, 8), (6, 16, 0, 4)),
    "gemma_eyes": ((40, 20, 16, 16), (42, 16, 12, 8)),
    "whisper": ((20, 8, 8, 8), (18, 4, 4, 4)),
    "qwen_ears": ((20, 8, 8, 8), (10, 4, 4, 4)),
    "qwen3_ears": ((20, 8, 8, 8), (10, 4, 4, 4)),
    "gemma_ears": ((374, 0, 0, 0), (226, 0, 0, 0)),  # a conformer: every size is a multiple of its width
}
# Styles by a part of the model_type that transformers knows a transformer or a vision tower by.
_STYLES = {"gemma2": "gemma2", "gemma3": "gemma3", "qwen3": "qwen3", "qwen2": "qwen2"}
_EYES = {"gemma_eyes": "gemma4", "qwen_eyes": "qwen2_5", "qwen3_eyes": "qwen3"}

_WHOLE = ("omni", "embedding_gemma2_whole")  # whose memory the tests hold against a real step; of joined ones, the text


def memory_is_shown(embedder: Embedder, cached: bool) -> bool:
    """Whether tests hold the planned activations of such a model against a real step's."""
    backbone = embedder.backbone
    towers = any(p.requires_grad for tower in backbone.towers().values() for p in tower.parameters())
    return backbone.name in _WHOLE or (backbone.name in ("compact", "causal_lm") and (cached or not towers))


@dataclass(frozen=True)
class Memory:
    """Bytes by use. `optimiser` is AdamW's two moments; `copies` are the bfloat16 ones that autocast makes of weights;
    `average` the float32 mean that `stage.average=ema` keeps of what trains (`tail` keeps it in the machine's memory);
    `buckets` those that DistributedDataParallel sets aside for gradients; `activations` of the heaviest chunk.
    """

    weights: float
    gradients: float
    optimiser: float
    copies: float
    average: float
    buckets: float
    activations: float
    similarities: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(asdict(self).values())


def memory_of(
    embedder: Embedder,
    chunks: Sequence[Sequence[Load]],
    *,
    bf16: bool,
    checkpointed: bool,
    cached: bool,
    strategy: str,
    devices: int,
    averaged: bool = False,
    similarities: float = 0.0,
) -> Memory:
    """Of a device that encodes `chunks` with a graph, one at a time.

    cached        frozen towers do not run
    strategy      "fsdp" shares weights, gradients and moments out over `devices`; all others keep them whole
    averaged      `stage.average=ema`
    similarities  bytes of the objective's own matrices
    """
    share = devices if strategy == "fsdp" else 1
    weights = sum(tensor.numel() * tensor.element_size() for tensor in (*embedder.parameters(), *embedder.buffers()))
    training = [p for p in embedder.parameters() if p.requires_grad]
    trained = sum(p.numel() * p.element_size() for p in training)
    maps = sum(m.weight.numel() for m in embedder.modules() if isinstance(m, nn.Linear) and m.weight.requires_grad)
    towers = [(loads, list(_stacks(embedder, cached))) for loads in chunks]
    kept = max((_kept(stacks, loads, bf16, checkpointed) for loads, stacks in towers), default=0.0)
    return Memory(
        weights=weights / share,
        gradients=trained / share,
        optimiser=2 * trained / share,
        copies=2 * maps / share if bf16 else 0.0,
        average=4 * sum(p.numel() for p in training) / share if averaged else 0.0,
        buckets=trained if strategy == "ddp" and devices > 1 else 0.0,
        activations=kept,
        similarities=similarities,
    )


@dataclass(frozen=True)
class Stack:
    """Layers of one kind in one part. sizes: width, queries, keys, hidden layer; `entering` numbers of a position that
    stands before the first layer and is kept: pixels of a patch, what convolutions over mel frames read and give.
    """

    style: str
    depth: int
    sizes: tuple[float, float, float, float]
    part: str
    entering: float = 0.0


def _kept(stacks: Sequence[Stack], loads: Sequence[Load], bf16: bool, checkpointed: bool) -> float:
    """Bytes that the graph of a chunk keeps: of every layer what it needs, or what enters it and one layer whole."""
    total, largest = 0.0, 0.0
    for stack in stacks:
        positions = sum(_positions(stack, load) for load in loads)
        each = sum(m * size for m, size in zip(KEPT[stack.style][bf16], stack.sizes, strict=True)) * positions
        total += stack.depth * (4 * stack.sizes[0] * positions if checkpointed else each)
        total += (2 if bf16 else 4) * stack.entering * positions
        largest = max(largest, each)
    return total + (largest if checkpointed else 0.0)


def _positions(stack: Stack, load: Load) -> float:
    if stack.part == "vision":
        return sum(load.patches)
    per_frame = {"gemma_ears": 1 / 4, "qwen3_ears": 1 / 8}.get(stack.style, 1 / 2)
    return sum(load.sounds) * per_frame if stack.part == "audio" else load.tokens


def _stacks(embedder: Embedder, cached: bool) -> Iterator[Stack]:
    """The stacks of layers that keep anything: the transformer, and towers that train."""
    backbone = embedder.backbone
    if any(p.requires_grad for p in backbone.parameters()):
        yield from (_text(layer, backbone.text.config) for layer in backbone.layers()[backbone.frozen_layers :])
    config = getattr(getattr(backbone, "model", None), "config", None)
    for name, tower in backbone.towers().items():
        if not cached and any(p.requires_grad for p in tower.parameters()):
            if name == "image" and config is not None:
                yield _eyes(config.vision_config)
            elif name == "audio":
                yield _ears(config.audio_config if config is not None else tower.encoder.config)


def _text(layer: nn.Module, config: Any) -> Stack:
    """One layer of the transformer, by its own maps: those of a model may differ in their sizes."""
    width, queries = config.hidden_size, query_width(layer)
    keys = _outputs(layer, "k_proj", ".key") or queries
    experts = getattr(config, "moe_intermediate_size", None)
    plain = _outputs(layer, "gate_proj", "intermediate.dense", "c_fc")
    hidden = (experts * config.num_experts_per_tok if experts else plain) + _outputs(layer, "per_layer_input_gate")
    kind = getattr(config, "model_type", "")
    style = next((style for style, named in _STYLES.items() if named in kind), "plain")
    return Stack(style, 1, (width, queries, keys, hidden), "text")


def _outputs(layer: nn.Module, *names: str) -> int:
    """Numbers that the first map so named gives; 0 where there is none."""
    found = (module.out_features for name, module in layer.named_modules() if name.endswith(names))
    return next(found, 0)


def _eyes(config: Any) -> Stack:
    kind = str(config.model_type)
    style = next((style for style, named in _EYES.items() if named in kind), "plain")
    width = config.hidden_size
    depth = getattr(config, "depth", None) or config.num_hidden_layers
    heads = getattr(config, "head_dim", None)
    queries = heads * config.num_attention_heads if heads else width
    pixels = 3 * config.patch_size**2 * getattr(config, "temporal_patch_size", 1)
    return Stack(style, depth, (width, queries, queries, config.intermediate_size), "vision", pixels)


def _ears(config: Any) -> Stack:
    if hasattr(config, "attention_chunk_size"):
        width = config.hidden_size
        first, second = config.subsampling_conv_channels
        bins = first  # the class takes them to be as many as the first convolution's channels
        # Of four frames: the bins, then what a convolution, its norm and its activation give, kept by what comes next.
        entering = 4 * bins + 3 * (first * bins + second * bins / 4)
        return Stack("gemma_ears", config.num_hidden_layers, (width, width, width, 4 * width), "audio", entering)
    style = "whisper"
    if hasattr(config, "n_window"):
        style = "qwen3_ears" if hasattr(config, "n_window_infer") else "qwen_ears"
    width = config.d_model
    return Stack(style, config.encoder_layers, (width, width, width, config.encoder_ffn_dim), "audio")
