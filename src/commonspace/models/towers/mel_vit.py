"""Log-mel frames to feature rows, by a timm vision transformer on patches of the mel spectrogram (as AudioMAE).

The spectrogram is a picture of one channel; which of its sides is time follows from the size the trunk was made for:
the longer one. A row is the mean of one column of patches, all mel bins of the same moment. With patches of 16 frames,
100 frames a second, that is 6.25 rows a second; the last patch may reach into silence after the sound.

Frames are Whisper's log-mel w, less the one `mean` and over the one `std` that config.json says. Weights trained on
natural logarithms of mels (Kaldi's, as AudioMAE's) saw about 4 ln(10) (w - 1) less their mean and over their deviation,
twice 4.57 about -4.27 in AudioMAE: so w less 0.54, over 1. Filters and windows differ on top of that.

Legend: N sounds, M mel bins, T mel frames, R rows, L patches, C width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from commonspace.errors import ConfigError, ContentError
from commonspace.models.towers.timm_weights import bare_trunk, load_timm_tensors, read_timm_config
from commonspace.models.towers.trunk import Described
from commonspace.processing.preprocessing import Preprocessing


@dataclass(frozen=True)
class MelVitConfig:
    """What the tower is, apart from its weights: timm's name and arguments, mean and deviation of its mel frames."""

    architecture: str
    model_args: Mapping[str, Any]
    mean: float
    std: float


class MelVitTower(Described):
    """A timm vision transformer over a sound's own length.

    Positions are cut to the length, as Whisper's, instead of stretched: a moment has the same position in every sound.
    A sound longer than the trunk's window is encoded window by window. `width` is C, `window` mel frames. Frozen until
    `train_whole`.
    """

    kind = "mel_vit"
    weights: str | None = None

    def __init__(self, config: MelVitConfig) -> None:
        super().__init__()
        self.config = config
        arguments = {**config.model_args, "in_chans": 1, "dynamic_img_size": False}
        try:
            trunk = bare_trunk(config.architecture, arguments)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"audio: timm cannot make a {config.architecture!r} ({error})") from error
        if not isinstance(trunk, VisionTransformer) or trunk.pos_embed is None:
            raise ConfigError(f"audio: {config.architecture} is no timm vision transformer with a table of positions")
        trunk.patch_embed.strict_img_size = False  # shorter sounds are let in
        size, patch, grid = (getattr(trunk.patch_embed, name) for name in ("img_size", "patch_size", "grid_size"))
        self.time = 0 if size[0] > size[1] else 1  # the axis of the picture
        self.window, self.bins = size[self.time], size[1 - self.time]
        self.patch, self.bands = patch[self.time], grid[1 - self.time]
        if any(side % part for side, part in zip(size, patch, strict=True)):
            raise ConfigError(f"audio: {config.architecture} for {size} mel values has no whole patches of {patch}")
        self.trunk, self.width = trunk, trunk.num_features
        self.trunk.requires_grad_(False)
        self.train(self.training)

    @classmethod
    def from_weights(cls, folder: Path) -> MelVitTower:
        """The tower of a weights folder in timm's layout; `model_args` in its config.json has the size in mels."""
        told = read_timm_config(folder)
        if len({*told.mean}) > 1 or len({*told.std}) > 1:
            raise ConfigError(
                f"{folder}/config.json: mean {told.mean} and std {told.std} are of colours, not of mels; "
                "write one number each into pretrained_cfg, of Whisper's log-mel values"
            )
        config = MelVitConfig(told.architecture, told.model_args, told.mean[0], told.std[0])
        tower = cls(config)
        load_timm_tensors(tower.trunk, folder, told.architecture)
        return tower

    @classmethod
    def from_config(cls, value: Mapping[str, Any]) -> MelVitTower:
        """The tower of a model folder's config.json, its weights not yet read: inverse of `describe`."""
        return cls(MelVitConfig(**value))

    def check(self, preprocessing: Preprocessing) -> None:
        """ConfigError where sounds come with other mel bins or at other rows than this tower's."""
        for name, own in (("audio_mels", self.bins), ("audio_frames_per_row", self.patch)):
            if (given := getattr(preprocessing, name)) != own:
                raise ConfigError(f"model.{name}={given}: {self.config.architecture} takes {own}; set it to that")

    def train_whole(self) -> None:
        """Let the trunk train."""
        self.trunk.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> MelVitTower:
        """As in torch; a frozen trunk stays in evaluation mode, so dropout never touches cached features."""
        return super().train(mode and not self.frozen)

    def forward(self, mel_NMT: torch.Tensor) -> torch.Tensor:
        """Rows [N, R, C] of log-mel frames [N, M, T] of equal length, R = ceil(T / patch)."""
        if mel_NMT.shape[-1] == 0:
            raise ContentError("0 mel frames are no row; pad the sound to whole seconds first")
        if shortfall := -mel_NMT.shape[-1] % self.patch:
            silence_NM1 = mel_NMT.amin((1, 2), keepdim=True).expand(-1, mel_NMT.shape[1], shortfall)
            mel_NMT = torch.cat([mel_NMT, silence_NM1], dim=-1)
        mel_NMT = (mel_NMT - self.config.mean) / self.config.std
        return torch.cat([self._encode(window_NMT) for window_NMT in mel_NMT.split(self.window, dim=-1)], dim=1)

    def _encode(self, mel_NMT: torch.Tensor) -> torch.Tensor:
        """Rows of one window, as `VisionTransformer.forward_features` but with the first positions of its table."""
        trunk, columns = self.trunk, mel_NMT.shape[-1] // self.patch
        picture_N1HW = (mel_NMT if self.time else mel_NMT.transpose(1, 2)).unsqueeze(1)
        tokens_NLC = trunk.patch_embed(picture_N1HW.to(trunk.pos_embed.dtype))
        prefix = [token for token in (trunk.cls_token, trunk.reg_token) if token is not None]
        tokens_NLC = torch.cat([*(token.expand(len(tokens_NLC), -1, -1) for token in prefix), tokens_NLC], dim=1)
        tokens_NLC = trunk.norm(trunk.blocks(trunk.norm_pre(tokens_NLC + self._positions(columns))))
        shape = (self.bands, columns) if self.time else (columns, self.bands)
        return tokens_NLC[:, trunk.num_prefix_tokens :].unflatten(1, shape).mean(2 - self.time)

    def _positions(self, columns: int) -> torch.Tensor:
        """The table of positions [1, L, C] without the patches of later columns."""
        table_1LC, grid, prefix = self.trunk.pos_embed, self.trunk.patch_embed.grid_size, self.trunk.num_prefix_tokens
        if self.trunk.no_embed_class:  # class and registers have none
            table_1LC = nn.functional.pad(table_1LC, (0, 0, prefix, 0))
        patches = table_1LC[:, prefix:].unflatten(1, grid).narrow(1 + self.time, 0, columns)
        return torch.cat([table_1LC[:, :prefix], patches.flatten(1, 2)], dim=1)
