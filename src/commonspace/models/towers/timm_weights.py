"""Weights folders in timm's layout: what config.json says, and tensors that fit whole or are refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from commonspace.errors import WeightsError

# What a trunk without its classifier and its pooling has no place for.
_HEADS = ("classifier.", "head.", "fc.", "attn_pool.", "fc_norm.")


@dataclass(frozen=True)
class TimmConfig:
    """config.json of a folder: timm's name, how to build it, and the normalisation per channel, counted from 0 to 1."""

    architecture: str
    model_args: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_timm_config(folder: Path) -> TimmConfig:
    """What a folder holds; WeightsError where its config.json is none of timm's."""
    try:
        described = json.loads((folder / "config.json").read_text())
        settings = described.get("pretrained_cfg", {})
        mean, std = (_numbers(settings[name]) for name in ("mean", "std"))
        return TimmConfig(described["architecture"], dict(described.get("model_args") or {}), mean, std)
    except KeyError as missing:
        raise WeightsError(f"{folder}/config.json: lacks {missing}, which timm's own layout has") from missing
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{folder}/config.json: cannot be read ({error}); copy the folder again") from error


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in (value if isinstance(value, list) else [value]))


def bare_trunk(architecture: str, model_args: dict[str, Any]) -> nn.Module:
    """A timm model that ends with its tokens, see `without_head`."""
    return without_head(timm.create_model(architecture, pretrained=False, **{**model_args, "num_classes": 0}))


def without_head(trunk: nn.Module) -> nn.Module:
    """The same timm model: the head and whatever pools or norms for it are gone, so that all of it counts.

    Unlike building it with `global_pool=""` this leaves the final norm where the architecture has it.
    """
    trunk.reset_classifier(0, "")
    for name in ("fc_norm", "head"):
        if hasattr(trunk, name):
            setattr(trunk, name, nn.Identity())
    return trunk


def load_timm_tensors(trunk: nn.Module, folder: Path, architecture: str) -> None:
    """Read a folder's tensors into a trunk; WeightsError where one is missing or has no place but in a head."""
    try:
        outcome = trunk.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{folder}: does not fit {architecture} ({error})") from error
    unknown = [key for key in outcome.unexpected_keys if not key.startswith(_HEADS)]
    if outcome.missing_keys or unknown:
        raise WeightsError(
            f"{folder}: does not fit {architecture}: lacks {outcome.missing_keys[:3]}, not {unknown[:3]}"
        )


def timm_stages(trunk: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """A trunk's repeated stages, none where it has no such list, and the modules after them."""
    children = dict(trunk.named_children())
    name = next((name for name in ("blocks", "stages") if name in children), None)
    if name is None:
        return [], []
    names = list(children)
    return list(children[name]), [children[later] for later in names[names.index(name) + 1 :]]
