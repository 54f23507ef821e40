"""Log-mel frames to feature rows at 25 a second, by Whisper's encoder.

Legend: N sounds, M mel bins, T mel frames (100 a second), R rows (25 a second), D width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from commonspace.errors import ConfigError, ContentError, WeightsError
from commonspace.models.device import cached_parts
from commonspace.models.towers.fingerprint import weights_fingerprint
from commonspace.processing.preprocessing import FRAMES_PER_ROW, Preprocessing

_PREFIX = "model.encoder."


class AudioTower(nn.Module):
    """Whisper's encoder over a sound's own length instead of 30 s of padding.

    Position embeddings are cut to the length, so a second of sound costs a second. A sound longer than the encoder's
    window is encoded window by window. Rows are means of two neighbouring encoder frames. `width` is D. Frozen until
    `train_whole`.
    """

    kind = "whisper"
    weights: str | None = None  # the name that they were asked for by, None where nobody knows

    def __init__(self, config: WhisperConfig | Mapping) -> None:
        super().__init__()
        config = config if isinstance(config, WhisperConfig) else WhisperConfig(**config)
        if config.max_source_positions % 2:
            raise ConfigError(f"audio.max_source_positions={config.max_source_positions} must be even: two make a row")
        self.encoder = WhisperEncoder(config)
        self.width = config.d_model
        self.window = 2 * config.max_source_positions  # mel frames
        self.encoder.requires_grad_(False)
        self.train(self.training)

    @classmethod
    def from_weights(cls, folder: Path) -> AudioTower:
        """The encoder of a Whisper folder in transformers' layout; the decoder's tensors are not read."""
        tower = cls(WhisperConfig.from_pretrained(folder))
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            wanted = [key for key in file.keys() if key.startswith(_PREFIX)]  # noqa: SIM118 (the file is no mapping)
            tensors = {key.removeprefix(_PREFIX): file.get_tensor(key) for key in wanted}
        outcome = tower.encoder.load_state_dict(tensors, strict=False)
        if outcome.missing_keys or outcome.unexpected_keys:
            raise WeightsError(f"{folder}: holds no whole Whisper encoder: {outcome.missing_keys[:3]} missing")
        return tower

    @classmethod
    def from_config(cls, value: Mapping[str, Any]) -> AudioTower:
        """The tower of a model folder's config.json, its weights not yet read: inverse of `describe`."""
        return cls(value)

    def describe(self) -> dict[str, Any]:
        """The encoder's config as JSON values."""
        return self.encoder.config.to_diff_dict()

    def check(self, preprocessing: Preprocessing) -> None:
        """ConfigError where sounds come with other mel bins or at other rows than this tower's."""
        for name, own in (("audio_mels", self.encoder.config.num_mel_bins), ("audio_frames_per_row", FRAMES_PER_ROW)):
            if (given := getattr(preprocessing, name)) != own:
                raise ConfigError(f"model.{name}={given}: this Whisper encoder takes {own}; set it to that")
        if (preprocessing.audio_rate // preprocessing.audio_hop) % FRAMES_PER_ROW:
            raise ConfigError(
                f"preprocessing.audio_hop={preprocessing.audio_hop}: a second is no whole number of rows of "
                f"{FRAMES_PER_ROW} mel frames"
            )

    def train_whole(self) -> None:
        """Let the encoder train, all but its positions: they are fixed sinusoids."""
        self.encoder.requires_grad_(True)
        self.encoder.embed_positions.requires_grad_(False)
        self.train(self.training)

    @property
    def frozen(self) -> bool:
        """Whether no parameter trains, so that outputs may be cached."""
        return not any(parameter.requires_grad for parameter in self.encoder.parameters())

    @property
    def fingerprint(self) -> str:
        """Of weights and architecture: equal fingerprints give equal features."""
        config = self.encoder.config
        settings = [config.d_model, config.encoder_layers, config.encoder_attention_heads, config.activation_function]
        return weights_fingerprint(self.encoder, json.dumps(settings))

    def train(self, mode: bool = True) -> AudioTower:
        """As in torch; a frozen encoder stays in evaluation mode, so dropout never touches cached features."""
        return super().train(mode and not self.frozen)

    def forward(self, mel_NMT: torch.Tensor) -> torch.Tensor:
        """Rows [N, T / 4, D] of log-mel frames [N, M, T] of equal length; T a multiple of 4 (whole seconds are)."""
        frames = mel_NMT.shape[-1]
        if frames == 0 or frames % FRAMES_PER_ROW:
            raise ContentError(f"{frames} mel frames are no whole rows; pad the sound to whole seconds first")
        parts = cached_parts(mel_NMT, max(1, self.window // frames))  # together about one window
        return torch.cat([self._rows(part_NMT) for part_NMT in parts])

    def _rows(self, mel_NMT: torch.Tensor) -> torch.Tensor:
        windows = [self._encode(window_NMT) for window_NMT in mel_NMT.split(self.window, dim=-1)]
        rows_NTD = torch.cat(windows, dim=1)
        return rows_NTD.unflatten(1, (-1, 2)).mean(2)

    def _encode(self, mel_NMT: torch.Tensor) -> torch.Tensor:
        """Encoder states [N, T / 2, D] of one window, as `WhisperEncoder.forward` but of any length."""
        encoder = self.encoder
        hidden = nn.functional.gelu(encoder.conv1(mel_NMT.to(encoder.conv1.weight.dtype)))
        hidden = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
        return encoder.layer_norm(hidden)
