"""Pixels of native aspect to a grid of feature rows near that aspect, by timm's NaFlexViT.

Images of several sizes go through at once: their patches stand beside each other, padded and masked, and each has its
own positions. `Preprocessing.image_patch` must be the trunk's patch, so that sides are whole patches.

Legend: N images, H and W pixels, L patches, P numbers of a patch, C width, h and w rows and columns of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models.naflexvit import NaFlexVit, batch_patchify
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from commonspace.errors import ConfigError
from commonspace.models.towers.timm_weights import bare_trunk, load_timm_tensors, read_timm_config, timm_stages
from commonspace.models.towers.trunk import TrunkTower
from commonspace.processing.preprocessing import Preprocessing


@dataclass(frozen=True)
class NaflexConfig:
    """What a NaFlexViT is, apart from its weights: timm's name and arguments, normalisation per colour from 0 to 1."""

    architecture: str
    model_args: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]


class NaflexTower(TrunkTower):
    """A NaFlexViT; `width` is C."""

    kind = "naflex"

    def __init__(self, config: NaflexConfig) -> None:
        super().__init__()
        try:
            trunk = bare_trunk(config.architecture, dict(config.model_args))
        except (RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"vision: timm cannot make a {config.architecture!r} ({error})") from error
        if not isinstance(trunk, NaFlexVit) or not trunk.embeds.is_linear:
            raise ConfigError(f"vision: {config.architecture} is no NaFlexViT with a linear embedding of patches")
        self.width = trunk.num_features
        self.patch = trunk.embeds.patch_size
        self._set(trunk, config)

    @classmethod
    def from_weights(cls, folder: Path) -> NaflexTower:
        """The tower of a weights folder in timm's layout (`config.json`, `model.safetensors`)."""
        described = read_timm_config(folder)
        config = NaflexConfig(described.architecture, described.model_args, described.mean, described.std)
        tower = cls(config)
        load_timm_tensors(tower.trunk, folder, config.architecture)
        return tower

    @classmethod
    def from_config(cls, value: Mapping[str, Any]) -> NaflexTower:
        return cls(NaflexConfig(value["architecture"], value["model_args"], tuple(value["mean"]), tuple(value["std"])))

    def check(self, preprocessing: Preprocessing) -> None:
        if self.patch != (preprocessing.image_patch,) * 2:
            raise ConfigError(
                f"model.image_patch={preprocessing.image_patch}: {self.config.architecture} keeps native aspects in "
                f"patches of {self.patch[0]} pixels; set it to that"
            )

    def _stages(self) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
        return timm_stages(self.trunk)

    def forward(self, pixels: Sequence[torch.Tensor] | torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Feature rows [N, h * w, C] of uint8 pixels, each [3, H, W] of whole patches, row by row from the top left.

        The map of patches of each image is averaged down (or spread) to the `grid` of h x w.
        """
        patches_NLP, place_NL2, valid_NL, sizes = self._patches(pixels)
        features = self.trunk.forward_features(patches_NLP, patch_coord=place_NL2, patch_valid=valid_NL)["patches"]
        features = features[:, self.trunk.num_prefix_tokens :]
        maps = [
            rows_LC[: rows * columns].T.unflatten(1, (rows, columns))
            for rows_LC, (rows, columns) in zip(features, sizes, strict=True)
        ]
        return torch.stack([nn.functional.adaptive_avg_pool2d(map_Chw, grid).flatten(1).T for map_Chw in maps])

    def _patches(
        self, pixels: Sequence[torch.Tensor] | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, list[tuple[int, int]]]:
        """Patches [N, L, P], their rows and columns [N, L, 2], which are real (None: all), and each image's grid."""
        patches, places, sizes = [], [], []
        for pixels_3HW in pixels:
            image_1PL, (rows, columns) = batch_patchify(
                self._normalised(pixels_3HW[None]), self.patch, pad=False, channels_last=self.trunk.embeds.channels_last
            )
            patches.append(image_1PL[0])
            rank = torch.arange(rows * columns, device=pixels_3HW.device)
            places.append(torch.stack([rank // columns, rank % columns], dim=1))
            sizes.append((rows, columns))
        patches_NLP, place_NL2 = (pad_sequence(values, batch_first=True) for values in (patches, places))
        if len({len(place) for place in places}) == 1:
            return patches_NLP, place_NL2, None, sizes
        lengths_N = torch.tensor([len(place) for place in places], device=patches_NLP.device)
        valid_NL = torch.arange(patches_NLP.shape[1], device=lengths_N.device) < lengths_N[:, None]
        return patches_NLP, place_NL2, valid_NL, sizes
