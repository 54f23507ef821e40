"""Which precision a machine computes faster in: measured, because CPUs with the same name differ."""

from __future__ import annotations

import time
from functools import cache

import torch

from commonspace.errors import ConfigError

_SIZES = (1024, 384, 1536)  # tokens x width x hidden: the product a compact model spends its time in
_SECONDS = 0.4  # of each measurement
_GAIN = 1.1  # bf16 costs digits; it has to be this much faster


@cache
def matmul_rate(dtype: torch.dtype, device: str = "cpu") -> float:
    """Floating-point operations a second of the compact model's largest product in `dtype`; median of repeated runs."""
    rows, inner, columns = _SIZES
    left = torch.randn(rows, inner, device=device, dtype=torch.float32).to(dtype)
    right = torch.randn(inner, columns, device=device, dtype=torch.float32).to(dtype)
    times = []
    deadline = time.perf_counter() + _SECONDS
    while time.perf_counter() < deadline or len(times) < 5:
        started = time.perf_counter()
        left @ right
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * rows * inner * columns / sorted(times)[len(times) // 2]


def resolve_precision(asked: str, device: str | None = None) -> str:
    """`asked`, or for "auto" whichever of "bf16-mixed" and "32-true" this machine is faster in.

    float16 is refused: pretrained encoders overflow in it (EmbeddingGemma 2 states so of itself), and bf16 does not.
    """
    if asked not in ("auto", "32-true", "bf16-mixed"):
        raise ConfigError(f"trainer.precision={asked!r}: use auto, 32-true or bf16-mixed; float16 overflows in the encoder")
    if asked != "auto":
        return asked
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    faster = matmul_rate(torch.bfloat16, device) > _GAIN * matmul_rate(torch.float32, device)
    return "bf16-mixed" if faster else "32-true"
