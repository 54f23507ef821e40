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
from commonspace.models.backbones.pretrained import model_type, read_config, read_model
from commonspace.processing.native_layout import NativeLayout
from commonspace.processing.native_preprocessing import NativePreprocessing
from commonspace.processing.native_processor import NativeProcessor
from commonspace.processing.pieces import Pieces

OWN = "own"  # what configs call a tower that comes with the model


class NativeBackbone(Backbone):
    """A kind names its classes in transformers, its layout, and how pieces become the model's inputs.

    model_types   of config.json: of the model itself, and of a larger one that it is a part of
    processor     what lays contents out for it
    attention     of `read_model`
    numbers       what `describe` says beside the model and its towers: how media are normalised or measured
    """

    text_name = r"model\.language_model"
    own_towers = True
    has_summaries = False
    preprocessing = NativePreprocessing
    processor: ClassVar[type[NativeProcessor]] = NativeProcessor
    attention: ClassVar[str | None] = "sdpa"
    numbers: ClassVar[tuple[str, ...]] = ("image_mean", "image_std")
    linear_maps = r"layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    config_class: ClassVar[str]
    model_class: ClassVar[str]
    model_types: ClassVar[tuple[str, ...]]

    def __init__(self, model: PreTrainedModel, described: Mapping[str, Any]) -> None:
        """`described` is what `describe` gives; the model's own config may lack towers that were left out."""
        super().__init__()
        self.model = model
        self.described = dict(described)
        text = model.config.get_text_config()
        self.width = self.input_width = text.hidden_size
        self.max_tokens = text.max_position_embeddings
        self.layout = self.layout_of(described)

    @classmethod
    @abstractmethod
    def layout_of(cls, described: Mapping[str, Any]) -> NativeLayout:
        """Where tokens stand, by what `describe` gives; WeightsError where an id is missing."""

    @classmethod
    @abstractmethod
    def prepare(cls, config: PreTrainedConfig, left_out: Collection[str]) -> None:
        """Change a config so that the model attends both ways, and makes and reads no layers of the towers named."""

    @abstractmethod
    def inputs(self, batch: Sequence[Pieces], device: torch.device) -> tuple[dict[str, Any], torch.Tensor]:
        """Keyword arguments of the model, and kind_BL: index into `KINDS`, below 0 at padding, which comes last."""

    @classmethod
    def of_weights(cls, folder: Path, towers: Collection[str], mask: str = "full") -> NativeBackbone:
        """The pretrained model of a folder in the Hugging Face layout, float32, with the named ones of its towers.

        `mask` is one of `masks`.
        """
        if (found := model_type(folder)) not in cls.model_types:
            raise WeightsError(
                f"{folder}: model_type {found!r} is no {cls.name}; known is {', '.join(cls.model_types)}"
            )
        config = read_config(getattr(transformers, cls.config_class), folder)
        own = {**_own_towers(cls, towers), **cls.read_numbers(folder, towers), "attention": mask}
        described = {"model": config.to_diff_dict(), **own}
        kind, prepared = getattr(transformers, cls.model_class), _prepared(config, cls, towers, mask)
        model = read_model(kind, folder, prepared, cls.attention)
        return cls(_without(model, cls, towers), described)

    @classmethod
    def read_numbers(cls, folder: Path, towers: Collection[str]) -> dict[str, Any]:
        """`numbers` of a weights folder; WeightsError names the file that is missing or damaged.

        Here mean and standard deviation of colours from 0 to 1, as the folder's own image processor has them.
        """
        read = read_numbers_of(transformers.AutoImageProcessor, folder, "images")
        if not read.do_normalize:
            return {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
        return {"image_mean": list(read.image_mean), "image_std": list(read.image_std)}

    @classmethod
    def whole_config(cls, described: Mapping[str, Any]) -> PreTrainedConfig:
        """The model's config as it came: of all its towers, its mask untouched."""
        return getattr(transformers, cls.config_class)(**copy.deepcopy(described["model"]))

    @classmethod
    def of_config(cls, described: Mapping[str, Any], towers: Collection[str]) -> NativeBackbone:
        """The model that a model folder's config.json describes, with the named towers, its weights not yet read."""
        mask = described.get("attention", "full")  # of which folders of before format 6 say nothing
        model = getattr(transformers, cls.model_class)(_prepared(cls.whole_config(described), cls, towers, mask))
        return cls(_without(model, cls, towers), {**described, **_own_towers(cls, towers), "attention": mask})

    def describe(self) -> dict[str, Any]:
        """This backbone's part of a model folder's config.json."""
        return {name: self.described[name] for name in ("model", "vision", "audio", "attention", *self.numbers)}

    @property
    def text(self) -> PreTrainedModel:
        """The transformer itself, without towers."""
        return self.model.language_model

    def towers(self) -> dict[str, nn.Module]:
        found = {name: getattr(self.model, _modules(type(self), name)[0], None) for name in self.tower_modules}
        return {name: tower for name, tower in found.items() if tower is not None}

    def layers(self) -> list[nn.Module]:
        return list(self.text.layers)

    def forward(self, batch: Sequence[Pieces]) -> TokenStates:
        self.check_lengths([pieces.tokens for pieces in batch])
        self._check_towers(batch)
        device = self.text.get_input_embeddings().weight.device
        inputs, kind_BL = self.inputs(batch, device)
        return TokenStates(self.model(**inputs).last_hidden_state, kind_BL, None)

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


def read_numbers_of(kind: Any, folder: Path, what: str) -> Any:
    """A folder's own processor of "images" or "sounds", read by an Auto class; WeightsError where it has none."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever transformers makes of a damaged file
        raise WeightsError(
            f"{folder}: holds no preprocessor_config.json of its {what} ({error}); copy the folder again"
        ) from error


def _prepared(
    config: PreTrainedConfig, kind: type[NativeBackbone], towers: Collection[str], mask: str
) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    kind.prepare(config, set(kind.tower_modules) - set(towers))
    if mask == "causal":
        config.get_text_config().is_causal = True  # as it was pretrained
    return config


def _without(model: PreTrainedModel, kind: type[NativeBackbone], towers: Collection[str]) -> PreTrainedModel:
    for name in set(kind.tower_modules) - set(towers):
        for module in _modules(kind, name):
            setattr(model, module, None)
    return model


def _modules(kind: type[NativeBackbone], tower: str) -> list[str]:
    return [name.removeprefix("model.") for name in kind.tower_modules[tower]]


def _own_towers(kind: type[NativeBackbone], towers: Collection[str]) -> dict[str, str | None]:
    held = set(towers) & set(kind.tower_modules)
    return {"vision": OWN if "image" in held else None, "audio": OWN if "audio" in held else None}
