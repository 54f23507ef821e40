"""Folders in open_clip's layout on the hub: `open_clip_config.json` and `open_clip_model.safetensors`.

One tower is made and read at a time. open_clip makes both at once, so the other is the smallest it can make, and goes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from commonspace.errors import WeightsError

if TYPE_CHECKING:  # open_clip is imported where it is needed: that takes a second
    from open_clip import CustomTextCLIP
    from open_clip.transformer import TextTransformer

CONFIG, TENSORS = "open_clip_config.json", "open_clip_model.safetensors"
_SMALLEST_TEXT = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
_SMALLEST_VISION = {"image_size": 1, "patch_size": 1, "width": 8, "head_width": 8, "layers": 1}
_WHOLE = ("logit_scale", "logit_bias")  # of the pair of towers


@dataclass(frozen=True)
class OpenClipConfig:
    """What `open_clip_config.json` says: the towers' settings and the normalisation per colour, counted from 0 to 1."""

    embed_dim: int
    vision_cfg: Mapping[str, Any]
    text_cfg: Mapping[str, Any]
    quick_gelu: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_open_clip_config(folder: Path) -> OpenClipConfig:
    """The settings of a folder; WeightsError where they cannot be read."""
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    try:
        described = json.loads((folder / CONFIG).read_text())
        model, pixels = described["model_cfg"], described.get("preprocess_cfg", {})
        return OpenClipConfig(
            model["embed_dim"], model["vision_cfg"], model["text_cfg"], bool(model.get("quick_gelu", False)),
            tuple(pixels.get("mean", OPENAI_DATASET_MEAN)),
            tuple(pixels.get("std", OPENAI_DATASET_STD)),
        )  # fmt: skip
    except KeyError as missing:
        raise WeightsError(f"{folder / CONFIG}: lacks {missing}, which open_clip's own layout has") from missing
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{folder / CONFIG}: cannot be read ({error}); copy the folder again") from error


def make_vision(embed_dim: int, vision_cfg: Mapping[str, Any], quick_gelu: bool) -> nn.Module:
    """An image tower of open_clip, its weights not yet read; WeightsError for settings that open_clip does not know."""
    settings = {**vision_cfg, "timm_model_pretrained": False}
    return _make(embed_dim, settings, _SMALLEST_TEXT, quick_gelu).visual


def make_text(text_cfg: Mapping[str, Any], quick_gelu: bool) -> TextTransformer:
    """A text tower of open_clip up to its final norm, its weights not yet read; WeightsError as `make_vision`."""
    return _make(8, _SMALLEST_VISION, {**text_cfg, "proj_type": "none"}, quick_gelu).text


def _make(
    embed_dim: int, vision_cfg: Mapping[str, Any], text_cfg: Mapping[str, Any], quick_gelu: bool
) -> CustomTextCLIP:
    from open_clip import CustomTextCLIP

    try:
        return CustomTextCLIP(embed_dim, dict(vision_cfg), dict(text_cfg), quick_gelu=quick_gelu)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise WeightsError(f"{CONFIG}: open_clip cannot make this tower ({error})") from error


def read_tower(folder: Path, tower: str) -> dict[str, torch.Tensor]:
    """The tensors of the tower "visual" or "text", under the names it has by itself; WeightsError for a broken file."""
    from open_clip.model import convert_to_custom_text_state_dict

    file = folder / TENSORS
    try:
        with safe_open(file, framework="pt") as opened:
            names = [name for name in opened.keys() if name.startswith("visual.") == (tower == "visual")]  # noqa: SIM118
            tensors = {name: opened.get_tensor(name) for name in names if name not in _WHOLE}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file}: cannot be read ({error}); copy the folder again") from error
    if tower == "text":  # beside the image tower, or in a module of its own
        tensors = convert_to_custom_text_state_dict(tensors)
    return {name.removeprefix(f"{tower}."): tensor for name, tensor in tensors.items()}


def load_tower(module: nn.Module, tensors: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Tensors into a tower, float32, all of them; WeightsError where one is missing, left over or of another shape."""
    try:
        outcome = module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{folder / TENSORS}: does not fit {CONFIG} ({error})") from error
    if wrong := [*outcome.missing_keys, *outcome.unexpected_keys]:
        raise WeightsError(f"{folder / TENSORS}: does not fit {CONFIG} at {', '.join(wrong[:3])}")
