"""Where a model runs outside of training, which Lightning places itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def best_device() -> str:
    """`cuda` where PyTorch sees a GPU, else `cpu`; an empty CUDA_VISIBLE_DEVICES hides the GPUs there are."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def cached_parts(batch: torch.Tensor, size: int) -> Sequence[torch.Tensor]:
    """A batch `size` rows at a time on a CPU, whose caches hold what layers make of so many; on a GPU as it is."""
    return batch.split(size) if batch.device.type == "cpu" else (batch,)
