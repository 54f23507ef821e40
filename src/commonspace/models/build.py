"""From options to an `Embedder`: the pretrained parts, joined, with a head that knows where text lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from commonspace.content import Content
from commonspace.errors import ConfigError
from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone
from commonspace.models.backbones.kinds import BACKBONES
from commonspace.models.backbones.native import OWN, NativeBackbone
from commonspace.models.embedder import Embedder
from commonspace.models.towers.kinds import audio_tower, check_towers, vision_tower
from commonspace.models.weights import resolve_weights
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.processor import Processor
from commonspace.processing.text import TextTokenizer


@dataclass(frozen=True)
class ModelOptions:
    """A model to build: its kind of backbone, the names of its pretrained parts and the sizes between them.

    name              of the kind of backbone, one of `BACKBONES`
    backbone          the transformer's weights, see `resolve_weights`
    vision, audio     names of the towers' weights, whose folders say of which class they are (`towers.kinds`); None
                      leaves the tower out: a specialist for the other modalities; "own" is that of a backbone which
                      brings its own, and has no sizes between parts to choose
    head_init         "identity": the encoder's own directions, which training centres on the mean of texts; "plain":
                      not centred (frozen, that is no head at all); "random": as the paper
    attention         of a backbone that brings its towers, one of its `masks`
    text_hidden       width of the feed-forward layer that text passes before the head; 0: none, as the paper
    connector_hidden  width of the connectors' hidden layer
    positions, max_positions, merge_beyond, window, global_every   what contents beyond the backbone's own positions
                      meet, and what their layers see, see `InputsEmbedsBackbone.set_lengths`
    """

    name: str = "compact"
    backbone: str = "multilingual-e5-small"
    vision: str | None = "efficientnet-lite0"
    audio: str | None = "whisper-tiny.en"
    image_grid: int = 3
    embedding_size: int = 384
    matryoshka_sizes: Sequence[int] = (64, 128, 256, 384)
    pooling: str = "mean"
    head_init: str = "identity"
    attention: str = "full"
    text_hidden: int = 0
    connector_hidden: int = 768
    positions: str = "limit"
    max_positions: int | None = None
    merge_beyond: int | None = None
    window: int | None = None
    global_every: int | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ModelOptions:
        """Of a `model` config group; numbers of the preprocessing among them are passed over."""
        return cls(**{field.name: options[field.name] for field in fields(cls) if field.name in options})


def build_model(
    options: ModelOptions, preprocessing: Preprocessing, *, weights: str = "package", cache: Path = Path("cache")
) -> Embedder:
    """The untrained model: every part pretrained but connectors, marks and head.

    weights  where the pretrained parts come from, see `resolve_weights`; a folder holds one subfolder a name
    """
    kind, towers = kind_of(options.name), (options.vision, options.audio)
    _check_towers(kind, options)
    folders = {
        name: resolve_weights(name, source_of(name, weights), cache)
        for name in (options.backbone, *towers)
        if name not in (None, OWN)
    }
    transformers.utils.logging.disable_progress_bar()  # a bar for two seconds of reading hides the bars that matter
    if issubclass(kind, NativeBackbone):
        held = [tower for tower, name in zip(("image", "audio"), towers, strict=True) if name]
        backbone = kind.of_weights(folders[options.backbone], held, options.attention)
    else:
        backbone = _joined(kind, options, folders, preprocessing)
    processor = processor_of(backbone, preprocessing, kind.read_tokenizer(folders[options.backbone]))
    embedder = Embedder(
        backbone,
        processor,
        embedding_size=options.embedding_size,
        matryoshka_sizes=tuple(options.matryoshka_sizes),
        pooling=options.pooling,
        text_hidden=options.text_hidden,
    )
    embedder.weights = options.backbone
    embedder.set_lengths(
        options.positions, options.max_positions, options.merge_beyond, options.window, options.global_every
    )
    initialise_head(embedder, options.head_init)
    return embedder.eval()


def kind_of(name: str) -> type[InputsEmbedsBackbone] | type[NativeBackbone]:
    """The kind of backbone that a config names."""
    if name not in BACKBONES:
        raise ConfigError(f"model.name={name!r} is no kind of backbone; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]


def preprocessing_of(options: Mapping[str, Any]) -> Preprocessing:
    """The numbers that a `model` config group names, of the class that its kind of backbone takes."""
    return kind_of(options["name"]).preprocessing.of(options)


def processor_of(
    backbone: InputsEmbedsBackbone | NativeBackbone, preprocessing: Preprocessing, tokenizer: TextTokenizer
) -> Processor:
    """What lays contents out for a backbone; ConfigError for numbers of another kind."""
    if not isinstance(backbone, NativeBackbone):
        return Processor(preprocessing, tokenizer)
    if type(preprocessing) is not (kind := backbone.preprocessing):
        raise ConfigError(f"{backbone.name} takes {kind.__name__}, not {type(preprocessing).__name__}")
    return backbone.processor(preprocessing, tokenizer, backbone.layout)


def _joined(
    kind: type[InputsEmbedsBackbone],
    options: ModelOptions,
    folders: Mapping[str, Path],
    preprocessing: Preprocessing,
) -> InputsEmbedsBackbone:
    backbone = kind(
        kind.read_text(folders[options.backbone]),
        vision_tower(folders[options.vision], options.vision) if options.vision else None,
        audio_tower(folders[options.audio], options.audio) if options.audio else None,
        image_tokens=options.image_grid**2,
        audio_merge=preprocessing.audio_merge,
        connector_hidden=options.connector_hidden,
    )
    check_towers(backbone.towers().values(), preprocessing)
    return backbone


def _check_towers(kind: type[InputsEmbedsBackbone] | type[NativeBackbone], options: ModelOptions) -> None:
    """Refuse towers and masks that a kind of backbone cannot have, before any weights are looked for."""
    if options.attention not in kind.masks:
        raise ConfigError(f"model.attention={options.attention!r}: {kind.name} takes {' or '.join(kind.masks)}")
    for option, tower, name in (("vision", "image", options.vision), ("audio", "audio", options.audio)):
        if name == OWN and not kind.own_towers:
            raise ConfigError(f"model.{option}: {kind.name} has no towers of its own; name weights, or null for none")
        if name == OWN and tower not in kind.tower_modules:
            raise ConfigError(f"model.{option}: {kind.name} has no {tower} tower; use null")
        if kind.own_towers and name not in (None, OWN):
            raise ConfigError(f"model.{option}={name!r}: {kind.name} brings its own towers; use own, or null for none")


def source_of(name: str, weights: str) -> str:
    """Where one part comes from: "package", "hub" and "hub@REVISION" as they are, a folder's subfolder `name`."""
    return weights if weights == "package" or weights.startswith("hub") else str(Path(weights) / name)


def initialise_head(embedder: Embedder, kind: str) -> None:
    """Start the head at the identity (cut to E; one a half where the pooling has two), or at random; no bias."""
    head, width = embedder.head, embedder.backbone.width
    with torch.no_grad():
        head.bias.zero_()
        if kind in ("identity", "plain"):
            if head.out_features > width:
                raise ConfigError(f"head_init={kind} cannot give {head.out_features} numbers from {width}; use random")
            for half_EW in head.weight.split(width, dim=1):
                nn.init.eye_(half_EW)
        elif kind != "random":
            raise ConfigError(f"head_init={kind!r} is unknown; choose identity, plain or random")


@torch.no_grad()
def standardise(embedder: Embedder, texts: Sequence[str]) -> None:
    """Centre what the head sees on the mean of `texts`, and bring each half of it to unit standard deviation.

    A pretrained text encoder's vectors share one large component; the cosine of any two is then near 1 and says little.
    One scale for all directions of a half keeps the encoder's own geometry.
    """
    pieces = [embedder.processor(Content(text)) for text in texts]
    pooled_NP = torch.cat([embedder.pool(pieces[i : i + 64]) for i in range(0, len(pieces), 64)])
    embedder.pooled_mean_P.copy_(pooled_NP.mean(0))
    centred_NP = pooled_NP - pooled_NP.mean(0)
    for half in range(0, pooled_NP.shape[1], embedder.backbone.width):
        rows = slice(half, half + embedder.backbone.width)
        deviation = centred_NP[:, rows].square().mean().sqrt()
        embedder.pooled_scale_P[rows] = 1 / deviation.clamp(min=1e-6)
