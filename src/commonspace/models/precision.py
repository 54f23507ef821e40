"""Which precision a machine is faster in, measured, because CPUs with the same name differ; and never float16."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from commonspace.content import Content
from commonspace.errors import ConfigError
from commonspace.models.device import best_device
from commonspace.models.precisions import FLOAT16, precision_fault

if TYPE_CHECKING:
    from commonspace.models.embedder import Embedder
    from commonspace.processing.pieces import Pieces

_WIDTH, _HEADS, _TOKENS, _CONTENTS = 384, 12, 32, 64  # a layer of the compact model on a small batch
_ROUNDS = 5
_GAIN = 1.1  # bf16 costs digits; it has to be this much faster


@cache
def step_seconds(device: str) -> dict[str, float]:
    """Seconds of one encoder layer forward and backward, {"32-true": s, "bf16-mixed": s}.

    Each precision's fastest of several rounds, taken in turn, so that other work on the machine slows both alike.
    """
    layer = nn.TransformerEncoderLayer(_WIDTH, _HEADS, 4 * _WIDTH, dropout=0.0, batch_first=True, device=device)
    states_BLD = torch.randn(_CONTENTS, _TOKENS, _WIDTH, device=device, requires_grad=True)
    seconds: dict[str, list[float]] = {"32-true": [], "bf16-mixed": []}
    for _ in range(_ROUNDS + 1):
        for precision, measured in seconds.items():
            started = time.perf_counter()
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed"):
                out_BLD = layer(states_BLD)
            out_BLD.float().square().mean().backward()
            if device != "cpu":
                torch.cuda.synchronize()
            measured.append(time.perf_counter() - started)
    return {precision: min(measured[1:]) for precision, measured in seconds.items()}  # the first round warms up


def resolve_precision(asked: str, device: str | None = None) -> str:
    """`asked`, or for "auto" whichever of "bf16-mixed" and "32-true" this machine is faster in; others ConfigError."""
    if fault := precision_fault("precision", asked):
        raise ConfigError(fault)
    if asked != "auto":
        return asked
    seconds = step_seconds(device or best_device())
    return "bf16-mixed" if _GAIN * seconds["bf16-mixed"] < seconds["32-true"] else "32-true"


def refuse_float16(weight: torch.Tensor) -> None:
    """ConfigError where a model's weights, or the autocast around its call, are float16."""
    device = weight.device.type
    cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    if torch.float16 in (weight.dtype, cast):
        raise ConfigError(f"no model runs in float16 here: {FLOAT16}; use float32 or bfloat16")


class InPrecision:
    """A model whose `embed` runs in `asked` precision (see `resolve_precision`) on its own device.

    Vectors are float32 all the same. In bf16 their cosines are off by some 1e-3: enough for choices on dev, for mining,
    and for tables that say so.
    """

    def __init__(self, model: Embedder, asked: str) -> None:
        self.model = model
        self.bf16 = resolve_precision(asked, model.device.type) == "bf16-mixed"

    def embed(self, contents: Iterable[Content | str], **options: Any) -> np.ndarray:
        """As `Embedder.embed`."""
        with self._cast():
            vectors_NE: Any = self.model.embed(contents, **options)
        return vectors_NE

    def embed_pieces(self, batch: Sequence[Pieces], **options: Any) -> torch.Tensor:
        """As `Embedder.embed_pieces`."""
        with self._cast():
            return self.model.embed_pieces(batch, **options)

    def _cast(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16)
