"""FLOPs of contents by part of the model, counted from shapes: two for a weight and a position, and attention's own.

A position is what a layer runs over: a token in the transformer, a patch in a vision tower, a mel frame (or two, or
four) in an audio tower. Norms, activations and the loss are left out, as torch's own counter leaves them out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from commonspace.errors import ConfigError
from commonspace.models.embedder import Embedder
from commonspace.planning.attention import attentions
from commonspace.processing.pieces import Pieces

PARTS = ("text", "vision", "audio", "head")  # connectors and projections count to their tower's part


@dataclass(frozen=True)
class Load:
    """What one content asks of the parts.

    tokens         of the transformer; `image_tokens` and `audio_tokens` are those that towers give
    patches        of each step of each picture or clip: those that see one another in a vision tower
    sounds         mel frames of each sound, of `mels` bins
    """

    tokens: int
    image_tokens: int = 0
    audio_tokens: int = 0
    patches: tuple[int, ...] = ()
    sounds: tuple[int, ...] = ()
    mels: int = 0

    @property
    def media(self) -> int:
        """Pictures and sounds."""
        return len(self.patches) + len(self.sounds)


def load_of(pieces: Pieces, embedder: Embedder) -> Load:
    """The load of a processed content; media that several pieces share count once."""
    media = {id(piece.value): piece for piece in pieces.pieces if piece.kind in ("image", "audio")}
    steps = [step for piece in media.values() if piece.kind == "image" for step in _steps(piece.value.shape, embedder)]
    mels = [piece.value.shape for piece in media.values() if piece.kind == "audio"]
    tokens = Counter()
    for piece in pieces.pieces:
        tokens[piece.kind] += piece.tokens
    return Load(
        pieces.tokens, tokens["image"], tokens["audio"], tuple(steps), tuple(frames for _, frames in mels),
        max((bins for bins, _ in mels), default=0),
    )  # fmt: skip


def _steps(shape: tuple[int, ...], embedder: Embedder) -> list[int]:
    """Patches of each step of uint8 pixels [3, H, W] or [F, 3, H, W]."""
    *frames, _, height, width = shape
    config = getattr(getattr(embedder.backbone, "model", None), "config", None)
    vision = getattr(config, "vision_config", None)
    if vision is None:  # a tower joined to the transformer: its patches are not counted here
        return [0] * (frames[0] if frames else 1)
    steps = -(-(frames[0] if frames else 1) // getattr(vision, "temporal_patch_size", 1))
    return [(height // vision.patch_size) * (width // vision.patch_size)] * steps


Positions = Callable[[Load], float]
Rules = list[tuple[str, str, Positions]]  # layers by name, their part, the positions each runs over; the first fits


def _whisper(prefix: str) -> Rules:
    return [
        (rf"{prefix}\.conv1$", "audio", lambda load: sum(load.sounds)),
        (rf"{prefix}\.(conv2$|layers\.)", "audio", lambda load: sum(load.sounds) / 2),
    ]


_EYES: Rules = [
    (r"visual\.(patch_embed|blocks)\.", "vision", lambda load: sum(load.patches)),
    (r"visual\.", "vision", lambda load: load.image_tokens),
]
_COMMON: Rules = [
    (r"^head$|^text_layer\.", "head", lambda load: 1),
    (r"^backbone\.(text|model\.language_model)\.", "text", lambda load: load.tokens),
    (r"^backbone\.image_connector\.", "vision", lambda load: load.image_tokens + len(load.patches)),
    (r"^backbone\.audio_connector\.", "audio", lambda load: load.audio_tokens + len(load.sounds)),
    *_whisper(r"^backbone\.audio\.encoder"),
]
_OWN: dict[str, Rules] = {
    "omni": [*_EYES, *_whisper("audio_tower"), (r"audio_tower\.proj$", "audio", lambda load: load.audio_tokens)],
    "qwen3_vl": _EYES,
    "qwen3_omni": [
        *_EYES,
        (r"audio_tower\.conv2d1$", "audio", lambda load: sum(load.sounds) * load.mels / 4),
        (r"audio_tower\.conv2d2$", "audio", lambda load: sum(load.sounds) * load.mels / 16),
        (r"audio_tower\.conv2d3$", "audio", lambda load: sum(load.sounds) * load.mels / 64),
        (r"audio_tower\.", "audio", lambda load: sum(load.sounds) / 8),
    ],
    "embedding_gemma2_whole": [
        (r"vision_tower\.", "vision", lambda load: sum(load.patches)),
        (r"embed_vision\.", "vision", lambda load: load.image_tokens),
        (r"audio_tower\..*relative_k_proj$", "audio", lambda load: 0),  # of a few distances, once a batch
        (r"audio_tower\..*layer0\.conv$", "audio", lambda load: sum(load.sounds) * load.mels / 4),
        (r"audio_tower\..*layer1\.conv$", "audio", lambda load: sum(load.sounds) * load.mels / 16),
        (r"(audio_tower|embed_audio)\.", "audio", lambda load: sum(load.sounds) / 4),
    ],
    "gemma3": [
        (r"vision_tower\.", "vision", lambda load: sum(load.patches)),
        (r"multi_modal_projector", "vision", lambda load: load.image_tokens),
    ],
}


# What reads a tower's input itself: no gradient goes on from there.
_FIRST = re.compile(r"patch_embed\.proj$|\.conv1$|conv2d1$|input_proj$|layer0\.conv$|patch_embedding$")


@dataclass(frozen=True)
class Layers:
    """Maps of one part that run over the same positions: FLOPs a position forwards, whether their weights train,
    whether a gradient goes on to what they read, and whether they stand in a layer that checkpointing computes again.
    """

    part: str
    flops: float
    positions: Positions
    trains: bool
    passes: bool
    layered: bool


def layers_of(embedder: Embedder) -> list[Layers]:
    """Every linear map and convolution of a model. ConfigError for one whose positions are not known here."""
    rules = [*_COMMON, *_OWN.get(embedder.backbone.name, [])]
    passed, repeated, stopped = passed_parts(embedder), _layered(embedder), _stopped(embedder)
    found: Counter = Counter()
    for name, size, trains in _maps(embedder):
        number = next((place for place, rule in enumerate(rules) if re.search(rule[0], name)), None)
        if number is None:
            if re.search(r"^backbone\.vision\.", name):
                continue  # of joined towers, which `check_known` refuses where they run
            raise ConfigError(f"plan: over how many positions {name} runs is not known; leave that tower out by null")
        part = rules[number][1]
        connects = "_connector." in name
        passes = part in passed and not _FIRST.search(name) and not name.startswith(stopped)
        if connects and name.endswith(".contract"):
            passes = trains
        found[number, trains, passes, name.startswith(repeated)] += 2 * size
    return [Layers(rules[number][1], flops, rules[number][2], *how) for (number, *how), flops in found.items()]


def _layered(embedder: Embedder) -> tuple[str, ...]:
    """Names, with a dot behind, of the layers that checkpointing computes again: not what stands around them."""
    own = set(embedder.backbone.layers())
    return tuple(
        f"{name}."
        for name, module in embedder.named_modules()
        if module in own or isinstance(module, GradientCheckpointingLayer)
    )


def _stopped(embedder: Embedder) -> tuple[str, ...]:
    """Names, with a dot behind, of the transformer's layers that no gradient passes."""
    own = set(embedder.backbone.layers()[: embedder.backbone.frozen_layers])
    return tuple(f"{name}." for name, module in embedder.named_modules() if module in own)


def check_known(embedder: Embedder, cached: bool) -> None:
    """ConfigError where an image tower runs that is joined to the transformer: its patches are not counted here."""
    if not cached and getattr(embedder.backbone, "vision", None) is not None:
        raise ConfigError("plan: the FLOPs of joined image towers are not known; use data.features=true")


def _maps(embedder: Embedder) -> Iterator[tuple[str, float, bool]]:
    """(name, weights that a position meets, whether they train) of whatever multiplies matrices."""
    config = embedder.backbone.text.config
    for name, module in embedder.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            yield name, module.weight.numel(), module.weight.requires_grad
        for own, parameter in module.named_parameters(recurse=False):
            if own in ("gate_up_proj", "down_proj"):  # of experts: a token meets only those it is sent to
                yield (
                    f"{name}.{own}",
                    parameter.numel() * config.num_experts_per_tok / config.num_experts,
                    parameter.requires_grad,
                )
            elif own in ("in_proj_weight", "mm_input_projection_weight"):
                yield f"{name}.{own}", parameter.numel(), parameter.requires_grad


@dataclass(frozen=True)
class Cost:
    """FLOPs by part: of a forward pass, and in training (see `costs`)."""

    forward: Counter
    training: Counter


def costs(
    embedder: Embedder, loads: Sequence[Load], *, cached: bool = False, again: int = 0, checkpointed: bool = False
) -> Cost:
    """FLOPs of contents together.

    cached        frozen towers' outputs come from the feature cache: towers do not run, connectors do
    again         forward passes beside the first one: 1 where a batch goes by gradient caching
    checkpointed  layers are computed once more in the backward pass, in full: torch leaves out a layer's last map
    A weight that trains costs a forward pass's FLOPs for its own gradient, and as many again for its input's, which a
    frozen layer costs too where something before it trains.
    """
    forward, training, passed = Counter(), Counter(), passed_parts(embedder)
    for layer in layers_of(embedder):
        if cached and layer.part in ("vision", "audio") and not layer.trains:
            continue  # connectors are what trains there, and all that runs
        flops = layer.flops * sum(map(layer.positions, loads))
        repeated = again + int(checkpointed and layer.layered and layer.part in passed)
        forward[layer.part] += flops
        training[layer.part] += flops * (1 + repeated + layer.trains + layer.passes)
    for part, flops, stopped in (found for load in loads for found in attentions(embedder, load)):
        if cached and part != "text":
            continue
        repeated = again + int(checkpointed and part in passed)
        forward[part] += flops
        training[part] += flops * (1 + repeated + 2 * (part in passed and not stopped))
    return Cost(forward, training)


def passed_parts(embedder: Embedder) -> set[str]:
    """Parts that a gradient goes through on its way to something that trains: towers that train, and what follows."""
    backbone = embedder.backbone
    towers = {"vision": backbone.towers().get("image"), "audio": backbone.towers().get("audio")}
    passed = {part for part, tower in towers.items() if tower is not None and _trains(tower)}
    return passed | {"head"} | ({"text"} if _trains(backbone) else set())


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
