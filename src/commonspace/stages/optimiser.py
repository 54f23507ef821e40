"""One AdamW for a stage: which tensors train, at which rate, on which schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from commonspace.models.embedder import Embedder
from commonspace.stages.settings import StageSettings

_TABLES = (
    *("positions", "marks.weight", "embeddings.weight", "embed_tokens.weight"),
    *("token_embedding.weight", "positional_embedding"),  # open_clip's
)


def freeze(embedder: Embedder, parts: Iterable[str]) -> None:
    """Stop gradients for the named parts; towers additionally keep whatever their own configuration froze."""
    backbone = embedder.backbone
    modules = {
        "words": backbone.text.get_input_embeddings(),
        "text": backbone.text,
        "vision": backbone.towers().get("image"),
        "audio": backbone.towers().get("audio"),
        "head": nn.ModuleList(module for module in (embedder.text_layer, embedder.head) if module is not None),
    }
    for part in parts:
        if (module := modules[part]) is not None:
            module.requires_grad_(False)


def parameter_groups(embedder: Embedder, settings: StageSettings, extra: Iterable[nn.Parameter] = ()) -> list[dict]:
    """AdamW groups by rate and decay: layers with layer-wise decay, towers, new parts, then `extra` (temperatures).

    Biases, norms, marks and positions (tensors of fewer than two dimensions, and tables) take no weight decay.
    """
    rates: dict[int, float] = {}
    layers = embedder.backbone.layers()
    for depth, layer in enumerate(layers):
        rate = settings.learning_rate * settings.layer_decay ** (len(layers) - 1 - depth)
        rates.update((id(p), rate) for p in layer.parameters())
    bottom = settings.learning_rate * settings.layer_decay ** len(layers)
    for p in embedder.backbone.text.parameters():
        rates.setdefault(id(p), bottom)
    for tower in embedder.backbone.towers().values():
        rates.update((id(p), settings.tower_learning_rate) for p in tower.parameters())
    groups: dict[tuple[float, float, bool], dict] = {}
    for name, p in embedder.named_parameters():
        if not p.requires_grad:
            continue
        rate = rates.get(id(p), settings.new_learning_rate)
        plain = p.ndim < 2 or name.endswith(_TABLES)
        decay = 0.0 if plain else settings.weight_decay
        settles = id(p) in rates  # pretrained: waits while the untrained parts settle
        group = groups.setdefault(
            (rate, decay, settles), {"params": [], "lr": rate, "weight_decay": decay, "settles": settles}
        )
        group["params"].append(p)
    result = list(groups.values())
    if extra := list(extra):
        result.append({"params": extra, "lr": settings.new_learning_rate, "weight_decay": 0.0, "settles": False})
    return result


def make_optimiser(
    embedder: Embedder, settings: StageSettings, steps: int, extra: Iterable[nn.Parameter] = ()
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """The optimiser and its per-step schedule over `steps` optimiser steps."""
    groups = parameter_groups(embedder, settings, extra)
    waits = [group.pop("settles") for group in groups]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
    settled, risen = math.ceil(settings.settle * steps), math.ceil(settings.warmup * steps)

    def shape(wait: bool):
        start = settled if wait else 0

        def factor(step: int) -> float:
            if step < start:
                return 0.0
            if step < start + risen:
                return (step - start + 1) / (risen + 1)
            progress = min(1.0, (step - start - risen) / max(1, steps - start - risen))
            return {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[
                settings.schedule
            ]

        return factor

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, [shape(wait) for wait in waits])
