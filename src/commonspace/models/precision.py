"""Which precision a machine trains faster in: measured, because CPUs with the same name differ."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from commonspace.content import Content
from commonspace.errors import ConfigError
from commonspace.models.device import best_device
from commonspace.models.embedder import Embedder

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
    """`asked`, or for "auto" whichever of "bf16-mixed" and "32-true" this machine is faster in.

    float16 is refused: pretrained encoders overflow in it (EmbeddingGemma 2 states so of itself), and bf16 does not.
    """
    if asked not in ("auto", "32-true", "bf16-mixed"):
        raise ConfigError(
            f"trainer.precision={asked!r}: use auto, 32-true or bf16-mixed; float16 overflows in the encoder"
        )
    if asked != "auto":
        return asked
    seconds = step_seconds(device or best_device())
    return "bf16-mixed" if _GAIN * seconds["bf16-mixed"] < seconds["32-true"] else "32-true"


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
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
            vectors_NE: Any = self.model.embed(contents, **options)
        return vectors_NE
