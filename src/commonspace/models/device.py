"""Where a model runs outside of training, which Lightning places itself."""

from __future__ import annotations

import torch


def best_device() -> str:
    """`cuda` where PyTorch sees a GPU, else `cpu`; an empty CUDA_VISIBLE_DEVICES hides the GPUs there are."""
    return "cuda" if torch.cuda.is_available() else "cpu"
