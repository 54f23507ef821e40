"""Pixels to a square grid of feature rows, by any timm trunk that gives a feature map or patch tokens.

Legend: N images, C channels of the feature map, T tokens (a square number), H and W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from commonspace.errors import ConfigError
from commonspace.models.device import cached_parts
from commonspace.models.towers.timm_weights import load_timm_tensors, read_timm_config, timm_stages
from commonspace.models.towers.trunk import TrunkTower, refuse_patches, square_side
from commonspace.processing.preprocessing import Preprocessing

_AT_ONCE = 4  # images: in the early layers of a convolutional trunk one takes some 5 MB


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


class VisionTower(TrunkTower):
    """A pretrained trunk; `width` is C."""

    kind = "timm"

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        try:
            trunk = timm.create_model(config.architecture, pretrained=False, num_classes=0, global_pool="")
        except RuntimeError as error:
            raise ConfigError(f"model.vision: timm knows no {config.architecture!r}; take other weights") from error
        self.width = trunk.num_features if config.stage is None else _stage_width(trunk, config)
        self._set(trunk, config)

    @classmethod
    def from_weights(cls, folder: Path, *, stage: int | None = None) -> VisionTower:
        """The tower of a weights folder in timm's layout (`config.json`, `model.safetensors`)."""
        described = read_timm_config(folder)
        config = VisionConfig(described.architecture, described.mean, described.std, stage)
        tower = cls(config)
        load_timm_tensors(tower.trunk, folder, config.architecture)
        return tower

    @classmethod
    def from_config(cls, value: Mapping[str, Any]) -> VisionTower:
        return cls(VisionConfig.from_json(dict(value)))

    def check(self, preprocessing: Preprocessing) -> None:
        refuse_patches(preprocessing, self.config.architecture)

    def forward(self, pixels_NCHW: torch.Tensor, tokens: int) -> torch.Tensor:
        """Feature rows [N, tokens, C] of uint8 pixels [N, 3, H, W], row by row from the top left.

        The map is averaged down (or spread) to a square grid; `tokens` must be a square number.
        """
        side = square_side(tokens)
        return torch.cat([self._rows(some_NCHW, side) for some_NCHW in cached_parts(pixels_NCHW, _AT_ONCE)])

    def _rows(self, pixels_NCHW: torch.Tensor, side: int) -> torch.Tensor:
        map_NChw = self._feature_map(self._normalised(pixels_NCHW))
        return nn.functional.adaptive_avg_pool2d(map_NChw, side).flatten(2).transpose(1, 2)

    def _stages(self) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        # Counted from the trunk's end, which features of an earlier stage never reach.
        return timm_stages(self.trunk) if self.config.stage is None else ([], [])

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
            raise ConfigError(f"model.vision: {name} gives no [N, C, h, w] map; take another image tower")
        return features


def _stage_width(trunk: nn.Module, config: VisionConfig) -> int:
    stage, stages = config.stage, [entry["num_chs"] for entry in trunk.feature_info]
    if stage is None or not -len(stages) <= stage < len(stages):
        raise ConfigError(f"stage={stage}: {config.architecture} has {len(stages)} stages")
    return stages[stage]
