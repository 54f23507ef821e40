"""What vision towers share: a pretrained trunk, frozen until its last stages are asked to train, on pixels that it
normalises itself.
"""

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

    Frozen until `train_last`; BatchNorm statistics never move. `frozen` tells whether features may be cached.

    kind     names the class in a model folder
    weights  the name that its weights were asked for by, None where nobody knows
    """

    kind: ClassVar[str]
    width: int
    weights: str | None = None

    @classmethod
    @abstractmethod
    def from_weights(cls, folder: Path) -> Self:
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

    def train_last(self, count: int) -> None:
        """Let the last `count` of the trunk's repeated stages train, and what comes after them; 0 freezes it whole.

        Raises ConfigError where there are not so many.
        """
        stages, after = self._stages()
        if not 0 <= count <= len(stages):
            raise ConfigError(f"stage.vision_trainable_stages={count}: the {self.kind} trunk has {len(stages)} stages")
        self._trained = [*stages[-count:], *after] if count else []
        self.trunk.requires_grad_(False)
        for module in self._trained:
            module.requires_grad_(True)
        self.train(self.training)

    @abstractmethod
    def _stages(self) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        """The trunk's repeated stages, and the modules after them."""

    def _set(self, trunk: nn.Module, config: Any) -> None:
        """Take a trunk, frozen."""
        self.trunk, self.config = trunk, config
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32)
            self.register_buffer(name, 255 * values.view(1, 3, 1, 1))
        self.train_last(0)

    def _normalised(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
        """uint8 pixels as the trunk takes them, in its own type."""
        return ((pixels_NCHW - self.mean) / self.std).to(next(self.trunk.parameters()).dtype)


def square_side(tokens: int) -> int:
    """Tokens a side of a square grid; ConfigError for a number that is no square."""
    side = round(tokens**0.5)
    if side * side != tokens:
        raise ConfigError(f"an image of {tokens} tokens is no square grid; use 1, 4, 9, 16, 25 ...")
    return side


def refuse_patches(preprocessing: Preprocessing, tower: str) -> None:
    """ConfigError where images keep their aspect, for a `tower` that takes squares."""
    if preprocessing.image_patch is not None:
        raise ConfigError(
            f"model.image_patch={preprocessing.image_patch}: {tower} takes squares, not native aspects; set it to "
            "null, or take a NaFlexViT"
        )
