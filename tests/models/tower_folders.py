"""Weights folders of small random towers, in the layouts that users have them in."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tests.models.tiny import tiny_tokenizer

HALF = [0.5, 0.5, 0.5]
NAFLEX = {
    "architecture": "naflexvit_base_patch16_siglip",
    "model_args": {"embed_dim": 32, "depth": 2, "num_heads": 2, "pos_embed_grid_size": [4, 4], "reg_tokens": 1},
}
MEL_VIT = {
    "architecture": "vit_tiny_patch16_224",
    "model_args": {"img_size": [96, 32], "in_chans": 1, "embed_dim": 32, "depth": 2, "num_heads": 2},
}
OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16, "layers": 2},
    "text_cfg": {
        "context_length": 128, "vocab_size": tiny_tokenizer().get_vocab_size(), "width": 32, "heads": 2, "layers": 2,
    },
    "quick_gelu": True,
}  # fmt: skip


def spread(module: nn.Module, std: float = 0.2) -> nn.Module:
    """The same module with larger random weights, none zero: freshly made ones tell little apart."""
    for p in module.parameters():
        if p.ndim > 1 or (p.ndim == 1 and not p.any()):
            nn.init.normal_(p, std=std)
    return module.eval()


def write_timm(folder: Path, described: dict, channels: int = 3, **changes: object) -> nn.Module:
    """config.json and model.safetensors of a timm model as timm writes them, and the model."""
    torch.manual_seed(0)
    model = spread(timm.create_model(described["architecture"], **described["model_args"]))
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "model.safetensors")
    cfg = {"mean": HALF[:channels], "std": HALF[:channels]}
    (folder / "config.json").write_text(json.dumps({**described, "pretrained_cfg": cfg, **changes}))
    return model


def write_open_clip(folder: Path, described: dict | None = None, *, custom: bool = False) -> nn.Module:
    """A folder in open_clip's layout, and its model; `custom`: the text tower in a module of its own."""
    torch.manual_seed(0)
    described = described or OPEN_CLIP
    model = spread((open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**described))
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    pixels = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    config = {"model_cfg": {**described, "custom_text": custom}, "preprocess_cfg": pixels}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return model
