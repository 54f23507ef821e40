"""A whole pretrained multimodal transformer as the backbone: its towers, marks, patches and positions, its mask full.

transformers runs the model and places its tokens; here is what lies between: pieces to its inputs, and a model folder.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from commonspace.errors import ContentError, WeightsError
from commonspace.models.backbones.base import Backbone, TokenStates
from commonspace.models.backbones.causal_lm import bidirectional
from commonspace.models.backbones.native_batch import Patches, Segment, model_inputs
from commonspace.models.backbones.pretrained import model_type, read_config, read_model
from commonspace.processing.native_layout import NativeLayout
from commonspace.processing.native_preprocessing import NativePreprocessing
from commonspace.processing.pieces import Pieces

OWN = "own"  # what configs call a tower that comes with the model
_DEPTHS = {"image": ("vision_config", ("depth",)), "audio": ("audio_config", ("encoder_layers",))}


class NativeBackbone(Backbone):
    """A kind names its classes in transformers, its layout, and how positions are asked of the model.

    model_types   of config.json: of the model itself, and of a larger one that it is a part of
    """

    tower_modules: ClassVar[dict[str, tuple[str, ...]]] = {"image": ("model.visual",), "audio": ("model.audio_tower",)}
    text_name = r"model\.language_model"
    own_towers = True
    has_summaries = False
    preprocessing = NativePreprocessing
    linear_maps = r"layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    config_class: ClassVar[str]
    model_class: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]

    def __init__(self, model: PreTrainedModel, described: Mapping[str, Any]) -> None:
        """`described` is what `describe` gives; the model's own config may lack towers that were left out."""
        super().__init__()
        self.model = model
        self.described = dict(described)
        vision, text = model.config.vision_config, model.config.get_text_config()
        self.width = self.input_width = text.hidden_size
        self.max_tokens = text.max_position_embeddings
        self.patches = Patches(
            vision.patch_size,
            vision.spatial_merge_size,
            vision.temporal_patch_size,
            tuple(described["image_mean"]),
            tuple(described["image_std"]),
        )
        self.layout = self.layout_of(model.config)

    @classmethod
    @abstractmethod
    def layout_of(cls, config: PreTrainedConfig) -> NativeLayout:
        """Where tokens stand, by the model's config; WeightsError where an id is missing."""

    @abstractmethod
    def positions(self, segment: Segment) -> torch.Tensor:
        """Rotary positions [3, S] of one segment with a medium, from 0, as the model itself counts."""

    @classmethod
    def of_weights(cls, folder: Path, towers: Collection[str]) -> NativeBackbone:
        """The pretrained model of a folder in the Hugging Face layout, float32, with the named ones of its towers."""
        if (found := model_type(folder)) not in cls.model_types:
            raise WeightsError(
                f"{folder}: model_type {found!r} is no {cls.name}; known is {', '.join(cls.model_types)}"
            )
        config = read_config(getattr(transformers, cls.config_class), folder)
        described = {"model": config.to_diff_dict(), **_own_towers(cls, towers), **_normalisation(folder)}
        model = read_model(getattr(transformers, cls.model_class), folder, _prepared(config, cls, towers))
        return cls(_without(model, cls, towers), described)

    @classmethod
    def of_config(cls, described: Mapping[str, Any], towers: Collection[str]) -> NativeBackbone:
        """The model that a model folder's config.json describes, with the named towers, its weights not yet read."""
        config = getattr(transformers, cls.config_class)(**copy.deepcopy(described["model"]))
        model = getattr(transformers, cls.model_class)(_prepared(config, cls, towers))
        return cls(_without(model, cls, towers), {**described, **_own_towers(cls, towers)})

    def describe(self) -> dict[str, Any]:
        """This backbone's part of a model folder's config.json."""
        return {name: self.described[name] for name in ("model", "vision", "audio", "image_mean", "image_std")}

    @property
    def text(self) -> PreTrainedModel:
        """The transformer itself, without towers."""
        return self.model.language_model

    def towers(self) -> dict[str, nn.Module]:
        found = {name: getattr(self.model, _module(type(self), name), None) for name in self.tower_modules}
        return {name: tower for name, tower in found.items() if tower is not None}

    def layers(self) -> list[nn.Module]:
        return list(self.text.layers)

    def forward(self, batch: Sequence[Pieces]) -> TokenStates:
        self.check_lengths([pieces.tokens for pieces in batch])
        self._check_towers(batch)
        device = self.text.get_input_embeddings().weight.device
        inputs, kind_BL = model_inputs(batch, self.layout, self.patches, self._positions, device)
        return TokenStates(self.model(**inputs).last_hidden_state, kind_BL, None)

    def _positions(self, segment: Segment) -> torch.Tensor:
        if segment.is_text:
            return torch.arange(len(segment.ids_S), dtype=torch.float32).expand(3, -1)
        return self.positions(segment).float().cpu()

    def _check_towers(self, batch: Sequence[Pieces]) -> None:
        needed = {piece.kind for pieces in batch for piece in pieces.pieces} & {"image", "audio"}
        for kind in sorted(needed - set(self.towers())):
            raise ContentError(
                f"this model was loaded without its {kind} tower; load it with towers including {kind!r}"
            )


def token_ids(config: PreTrainedConfig, *names: str) -> tuple[int, ...]:
    """Ids of special tokens as config.json has them; WeightsError names one that it lacks."""
    for name in names:
        if not isinstance(getattr(config, name, None), int):
            raise WeightsError(f"config.json of a {config.model_type}: has no {name}; copy the folder again")
    return tuple(getattr(config, name) for name in names)


def _prepared(config: PreTrainedConfig, kind: type[NativeBackbone], towers: Collection[str]) -> PreTrainedConfig:
    """The config with a full mask; towers that are left out get no layers, so that none are made or read."""
    config = copy.deepcopy(config)
    bidirectional(config.get_text_config())
    for name in set(kind.tower_modules) - set(towers):
        part, depths = _DEPTHS[name]
        for depth in depths:
            setattr(getattr(config, part), depth, 0)
    return config


def _without(model: PreTrainedModel, kind: type[NativeBackbone], towers: Collection[str]) -> PreTrainedModel:
    for name in set(kind.tower_modules) - set(towers):
        setattr(model, _module(kind, name), None)
    return model


def _module(kind: type[NativeBackbone], tower: str) -> str:
    return kind.tower_modules[tower][0].removeprefix("model.")


def _own_towers(kind: type[NativeBackbone], towers: Collection[str]) -> dict[str, str | None]:
    held = set(towers) & set(kind.tower_modules)
    return {"vision": OWN if "image" in held else None, "audio": OWN if "audio" in held else None}


def _normalisation(folder: Path) -> dict[str, list[float]]:
    """Mean and standard deviation of colours from 0 to 1, as the folder's own image processor has them."""
    try:
        read = transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever transformers makes of a damaged file
        raise WeightsError(
            f"{folder}: holds no preprocessor_config.json of its images ({error}); copy the folder again"
        ) from error
    return {"image_mean": list(read.image_mean), "image_std": list(read.image_std)}
