"""What vision towers share: a pretrained trunk, frozen but for its last stages, on pixels that it normalises itself."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from commonspace.errors import ConfigError
from commonspace.models.towers.fingerprint import weights_fingerprint
from commonspace.processing.preprocessing import Preprocessing


class Described(nn.Module):
    """A `trunk` that a `config`, a dataclass of plain values, says all of but its weights."""

    config: Any
    trunk: nn.Module

    def describe(self) -> dict[str, Any]:
        """The config as JSON values."""
        return asdict(self.config)

    @property
    def frozen(self) -> bool:
        """Whether no parameter trains, so that outputs may be cached."""
        return not any(parameter.requires_grad for parameter in self.trunk.parameters())

    @property
    def fingerprint(self) -> str:
        """Of weights and config: equal fingerprints give equal features."""
        return weights_fingerprint(self.trunk, json.dumps(asdict(self.config), sort_keys=True))


class TrunkTower(Described):
    """A pretrained `trunk` under a `config` (a dataclass of plain values with `mean` and `std`), `width` numbers a row.

    BatchNorm statistics never move, whatever trains. `frozen` tells whether features may be cached.

    kind     names the class in a model folder
    weights  the name that its weights were asked for by, None where nobody knows
    """

    kind: ClassVar[str]
    width: int
    weights: str | None = None

    @classmethod
    @abstractmethod
    def from_weights(cls, folder: Path, *, trainable_stages: int = 0) -> Self:
        """The tower of a weights folder; WeightsError where that holds another, or not all of it."""

    @classmethod
    @abstractmethod
    def from_config(cls, value: Mapping[str, Any]) -> Self:
        """The tower of a model folder's config.json, its weights not yet read: inverse of `describe`."""

    @abstractmethod
    def check(self, preprocessing: Preprocessing) -> None:
        """ConfigError where images come in a form that this tower does not take."""

    def train(self, mode: bool = True) -> Self:
        """As in torch, but frozen stages and all BatchNorm stay in evaluation mode."""
        super().train(mode)
        self.trunk.eval()
        for module in self._trained:
            module.train(mode)
        for module in self.trunk.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def _set(self, trunk: nn.Module, config: Any, trained: Sequence[nn.Module]) -> None:
        """Take a trunk of which the modules `trained` train."""
        self.trunk, self.config, self._trained = trunk, config, list(trained)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32)
            self.register_buffer(name, 255 * values.view(1, 3, 1, 1))
        trunk.requires_grad_(False)
        for module in self._trained:
            module.requires_grad_(True)
        self.train(self.training)

    def _normalised(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
        """uint8 pixels as the trunk takes them, in its own type."""
        return ((pixels_NCHW - self.mean) / self.std).to(next(self.trunk.parameters()).dtype)


def square_side(tokens: int) -> int:
    """Tokens a side of a square grid; ConfigError for a number that is no square."""
    side = round(tokens**0.5)
    if side * side != tokens:
        raise ConfigError(f"an image of {tokens} tokens is no square grid; use 1, 4, 9, 16, 25 ...")
    return side


def last_stages(
    stages: Sequence[nn.Module], after: Sequence[nn.Module], count: int, architecture: str
) -> list[nn.Module]:
    """The last `count` of a trunk's repeated stages and what comes `after` them; nothing for 0.

    Raises ConfigError where there are not so many.
    """
    if not 0 <= count <= len(stages):
        raise ConfigError(f"vision.trainable_stages={count}: {architecture} has {len(stages)} stages")
    return [*stages[-count:], *after] if count else []


def refuse_patches(preprocessing: Preprocessing, tower: str) -> None:
    """ConfigError where images keep their aspect, for a `tower` that takes squares."""
    if preprocessing.image_patch is not None:
        raise ConfigError(
            f"model.image_patch={preprocessing.image_patch}: {tower} takes squares, not native aspects; set it to "
            "null, or take a NaFlexViT"
        )
