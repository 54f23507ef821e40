"""Pixels to a square grid of feature rows, by any image tower of open_clip: its transformer, its ResNet, a timm trunk.

Rows are what the tower's pooling reads, so neither pooling nor projection is held. A tower's position table is for one
size of image: `Preprocessing.image_size` must be that.

Legend: N images, C channels of the feature map, T tokens (a square number), H and W pixels, h and w of the map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.layers import to_2tuple
from torch import nn

from commonspace.errors import ConfigError
from commonspace.models.open_clip_weights import load_tower, make_vision, read_open_clip_config, read_tower
from commonspace.models.towers.timm_weights import timm_stages, without_head
from commonspace.models.towers.trunk import TrunkTower, refuse_patches, square_side
from commonspace.processing.preprocessing import Preprocessing


@dataclass(frozen=True)
class OpenClipVisionConfig:
    """What an image tower is, apart from its weights: open_clip's settings, normalisation per colour from 0 to 1."""

    embed_dim: int
    vision_cfg: Mapping[str, Any]
    quick_gelu: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


class OpenClipTower(TrunkTower):
    """An image tower of open_clip; `width` is C.

    `trunk` is the whole tower with its weights, if given; what comes after the rows is dropped from it.
    """

    kind = "open_clip"

    def __init__(self, config: OpenClipVisionConfig, trunk: nn.Module | None = None) -> None:
        super().__init__()
        trunk = trunk or make_vision(config.embed_dim, config.vision_cfg, config.quick_gelu)
        size = to_2tuple(trunk.image_size)
        if size[0] != size[1]:
            raise ConfigError(f"vision: this open_clip tower takes images of {size[0]} x {size[1]}, not squares")
        self.image_size = size[0]
        self.width, *parts = _without_pooling(trunk)
        self._parts = tuple(parts)
        self._set(trunk, config)

    @classmethod
    def from_weights(cls, folder: Path) -> OpenClipTower:
        """The image tower of a folder in open_clip's layout; its text tower is not read."""
        told = read_open_clip_config(folder)
        config = OpenClipVisionConfig(told.embed_dim, told.vision_cfg, told.quick_gelu, told.mean, told.std)
        trunk = make_vision(config.embed_dim, config.vision_cfg, config.quick_gelu)
        load_tower(trunk, read_tower(folder, "visual"), folder)
        return cls(config, trunk)

    @classmethod
    def from_config(cls, value: Mapping[str, Any]) -> OpenClipTower:
        numbers = {name: tuple(value[name]) for name in ("mean", "std")}
        return cls(OpenClipVisionConfig(**{**value, **numbers}))

    def check(self, preprocessing: Preprocessing) -> None:
        refuse_patches(preprocessing, "an open_clip tower")
        if preprocessing.image_size != self.image_size:
            raise ConfigError(
                f"model.image_size={preprocessing.image_size}: this open_clip tower takes {self.image_size} pixels a "
                "side; set it to that"
            )

    def _stages(self) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        return self._parts

    def forward(self, pixels_NCHW: torch.Tensor, tokens: int) -> torch.Tensor:
        """Feature rows [N, tokens, C] of uint8 pixels [N, 3, H, W], row by row from the top left.

        The map is averaged down (or spread) to a square grid; `tokens` must be a square number.
        """
        side = square_side(tokens)
        map_NChw = self._feature_map(self._normalised(pixels_NCHW))
        return nn.functional.adaptive_avg_pool2d(map_NChw, side).flatten(2).transpose(1, 2)

    def _feature_map(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
        if not isinstance(self.trunk, TimmModel):
            # The last block alone; a norm before the pooling is part of what the pooling reads.
            return self.trunk.forward_intermediates(
                pixels_NCHW, indices=1, normalize_intermediates=True, intermediates_only=True
            )["image_intermediates"][-1]
        features = self.trunk.trunk.forward_features(pixels_NCHW)
        if features.ndim == 3:  # a transformer's tokens: the prefix (class, registers) is no place in the image
            patches_NPC = features[:, self.trunk.trunk.num_prefix_tokens :]
            return patches_NPC.transpose(1, 2).unflatten(2, (round(patches_NPC.shape[1] ** 0.5), -1))
        return features if features.shape[1] == self.width else features.permute(0, 3, 1, 2)


def _without_pooling(trunk: nn.Module) -> tuple[int, list[nn.Module], list[nn.Module]]:
    """Drop what follows the rows from a tower; its width, its repeated stages and the modules after them."""
    if isinstance(trunk, VisionTransformer):
        if trunk.attn_pool is not None or trunk.final_ln_after_pool:  # that norm is of what was pooled
            trunk.ln_post = nn.Identity()
        trunk.attn_pool = trunk.proj = None
        return trunk.transformer.width, list(trunk.transformer.resblocks), [trunk.ln_post]
    if isinstance(trunk, ModifiedResNet):
        width, trunk.attnpool = trunk.attnpool.q_proj.in_features, None
        return width, [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4], []
    if isinstance(trunk, TimmModel):
        trunk.head, inner = nn.Identity(), without_head(trunk.trunk)
        return inner.num_features, *timm_stages(inner)
    raise ConfigError(f"vision: an open_clip tower of class {type(trunk).__name__} is not known here")
