"""What a composed config says, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf


def resolved(config: DictConfig, only: Sequence[str] | None = None) -> dict[str, Any]:
    """A config as plain values, every interpolation resolved: all of it but hydra's own, or the keys of `only`."""
    kept = [key for key in config if key != "hydra"] if only is None else list(only)
    return OmegaConf.to_container(OmegaConf.masked_copy(config, kept), resolve=True)
