"""Pixels to a square grid of feature rows, by any timm trunk that gives a feature map or patch tokens.

Legend: N images, C channels of the feature map, T tokens (a square number), H and W pixels.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.towers.fingerprint import weights_fingerprint


@dataclass(frozen=True)
class VisionConfig:
    """What a vision tower is, apart from its weights.

    architecture  timm's name
    mean, std     normalisation per colour, for pixels counted from 0 to 1
    stage         an index into timm's feature stages (-2 is the last but one), or None for the trunk's final features
    """

    architecture: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stage: int | None = None

    @classmethod
    def from_json(cls, value: dict) -> VisionConfig:
        """Inverse of `dataclasses.asdict` after a turn through JSON."""
        return cls(value["architecture"], tuple(value["mean"]), tuple(value["std"]), value["stage"])


class VisionTower(nn.Module):
    """A pretrained trunk, frozen but for its last `trainable_stages` stages and whatever follows them.

    `width` is C. BatchNorm statistics never move, whatever trains. `frozen` tells whether features may be cached.
    """

    def __init__(self, config: VisionConfig, *, trainable_stages: int = 0) -> None:
        super().__init__()
        self.config = config
        try:
            self.trunk = timm.create_model(config.architecture, pretrained=False, num_classes=0, global_pool="")
        except RuntimeError as error:
            raise ConfigError(f"vision.architecture: timm knows no {config.architecture!r}") from error
        if config.stage is None:
            self.width = self.trunk.num_features
        else:
            self.width = self._stage_width(config.stage)
        for name, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(name, 255 * torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1))
        self._freeze(trainable_stages)

    @classmethod
    def from_weights(cls, folder: Path, *, stage: int | None = None, trainable_stages: int = 0) -> VisionTower:
        """The tower of a weights folder in timm's layout (`config.json`, `model.safetensors`)."""
        described = json.loads((folder / "config.json").read_text())
        settings = described.get("pretrained_cfg", {})
        try:
            config = VisionConfig(described["architecture"], tuple(settings["mean"]), tuple(settings["std"]), stage)
        except KeyError as missing:
            raise WeightsError(f"{folder}/config.json: lacks {missing}, which timm's own layout has") from missing
        tower = cls(config, trainable_stages=trainable_stages)
        tensors = load_file(folder / "model.safetensors")
        outcome = tower.trunk.load_state_dict(tensors, strict=False)
        unknown = [key for key in outcome.unexpected_keys if not key.startswith(("classifier.", "head.", "fc."))]
        if outcome.missing_keys or unknown:
            raise WeightsError(
                f"{folder}: does not fit {config.architecture}: lacks {outcome.missing_keys[:3]}, not {unknown[:3]}"
            )
        return tower

    @property
    def frozen(self) -> bool:
        """Whether no parameter trains, so that outputs may be cached."""
        return not any(parameter.requires_grad for parameter in self.trunk.parameters())

    @property
    def fingerprint(self) -> str:
        """Of weights, normalisation and stage: equal fingerprints give equal features."""
        return weights_fingerprint(self.trunk, json.dumps(asdict(self.config), sort_keys=True))

    def forward(self, pixels_NCHW: torch.Tensor, tokens: int) -> torch.Tensor:
        """Feature rows [N, tokens, C] of uint8 pixels [N, 3, H, W], row by row from the top left.

        The map is averaged down (or spread) to a square grid; `tokens` must be a square number.
        """
        side = round(tokens**0.5)
        if side * side != tokens:
            raise ConfigError(f"an image of {tokens} tokens is no square grid; use 1, 4, 9, 16, 25 ...")
        weight = next(self.trunk.parameters())
        pixels_NCHW = ((pixels_NCHW - self.mean) / self.std).to(weight.dtype)
        map_NChw = self._feature_map(pixels_NCHW)
        return nn.functional.adaptive_avg_pool2d(map_NChw, side).flatten(2).transpose(1, 2)

    def train(self, mode: bool = True) -> VisionTower:
        """As in torch, but frozen stages and all BatchNorm stay in evaluation mode."""
        super().train(mode)
        self.trunk.eval()
        for module in self._trained:
            module.train(mode)
        for module in self.trunk.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def _feature_map(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
        if self.config.stage is not None:
            return self.trunk.forward_intermediates(
                pixels_NCHW, indices=[self.config.stage], intermediates_only=True, output_fmt="NCHW"
            )[0]
        features = self.trunk.forward_features(pixels_NCHW)
        if features.ndim == 3:  # a transformer's tokens: the prefix (class, registers) is no place in the image
            patches_NPC = features[:, self.trunk.num_prefix_tokens :]
            side = round(patches_NPC.shape[1] ** 0.5)
            features = patches_NPC.transpose(1, 2).unflatten(2, (side, -1))
        if features.shape[1] != self.width:
            name = self.config.architecture
            raise ConfigError(f"vision.architecture: {name} gives no [N, C, h, w] map; set vision.stage=-1")
        return features

    def _stage_width(self, stage: int) -> int:
        stages = [entry["num_chs"] for entry in self.trunk.feature_info]
        if not -len(stages) <= stage < len(stages):
            raise ConfigError(f"vision.stage={stage}: {self.config.architecture} has {len(stages)} stages")
        return stages[stage]

    def _freeze(self, trainable_stages: int) -> None:
        self.trunk.requires_grad_(False)
        self._trained: list[nn.Module] = []
        if trainable_stages:
            self._trained = self._last_stages(trainable_stages)
        for module in self._trained:
            module.requires_grad_(True)
        self.train(self.training)

    def _last_stages(self, count: int) -> list[nn.Module]:
        """The last `count` repeated stages of the trunk and the modules after them (the head of the feature map)."""
        if self.config.stage is not None:
            raise ConfigError("vision.trainable_stages counts from the trunk's end: it takes no vision.stage beside it")
        children = dict(self.trunk.named_children())
        name = next((name for name in ("blocks", "stages") if name in children), None)
        stages = list(children[name]) if name else []
        if not 0 < count <= len(stages):
            raise ConfigError(f"vision.trainable_stages={count}: {self.config.architecture} has {len(stages)} stages")
        names = list(children)
        return [*stages[-count:], *(children[later] for later in names[names.index(name) + 1 :])]
