"""The precisions a model runs in, and why float16 is none: known without torch, so that a config is judged by it."""

from __future__ import annotations

PRECISIONS = ("auto", "32-true", "bf16-mixed")
FLOAT16 = (
    "float16 ends at 65504, which activations of pretrained encoders pass (Gemma 3 and EmbeddingGemma are published "
    "with that warning), and small gradients vanish in it; bfloat16 has float32's range"
)
_NAMES = ("16", "16-mixed", "16-true", "fp16", "float16", "half", "transformer-engine-float16")


def precision_fault(key: str, asked: object) -> str | None:
    """What is wrong with a precision that option `key` asks for, and what to take; None where nothing is."""
    if asked in PRECISIONS:
        return None
    why = f" ({FLOAT16})" if str(asked) in _NAMES else ""
    return f"{key}: {asked!r} is none of {', '.join(PRECISIONS)}{why}"
