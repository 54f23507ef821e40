"""Options of the sigmoid loss, checked when a config is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from commonspace.errors import ConfigError


@dataclass(frozen=True)
class SigmoidOptions:
    """How the sigmoid loss is taken; the defaults are SigLIP's (2303.15343).

    bias        of every logit at the start: -10, so that a batch's many non-matches do not dominate the first steps.
    learn_bias  Whether it trains, at the rate of new parts. Relations: with False a constant, as in `sigmoid_loss`.
    chunk_rows  As `NCEOptions.chunk_rows`: the same value and gradient in memory linear in the batch.
    """

    bias: float = -10.0
    learn_bias: bool = True
    chunk_rows: int | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.bias):
            raise ConfigError(f"bias={self.bias} must be a finite number; SigLIP starts at -10")
        if self.chunk_rows is not None and self.chunk_rows < 1:
            raise ConfigError(f"chunk_rows={self.chunk_rows} must be at least 1, or null for the whole matrix at once")

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> SigmoidOptions:
        """Options from a config mapping; an unknown name raises ConfigError."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"unknown option {', '.join(unknown)} of sigmoid; it has {', '.join(sorted(known))}")
        return cls(**values)
