"""One AdamW for a stage: which tensors train, at which rate, on which schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from transformers import get_scheduler

from commonspace.errors import ConfigError
from commonspace.models.embedder import Embedder
from commonspace.stages.settings import StageSettings

_TABLES = (
    *("positions", "marks.weight", "embeddings.weight", "embed_tokens.weight"),
    *("token_embedding.weight", "positional_embedding"),  # open_clip's
)
_LAST = {"norm", "final_norm", "ln_final"}  # of a transformer, above its layers


def unfreeze_towers(embedder: Embedder, vision_stages: int, audio: bool) -> None:
    """Let joined towers train: the image tower's last stages, the audio tower whole. They come frozen.

    Raises ConfigError for a tower that is not there, or that a whole multimodal backbone brings: `freeze` is for those.
    """
    backbone, towers = embedder.backbone, embedder.backbone.towers()
    asked = {"vision_trainable_stages": (vision_stages, "image"), "audio_trainable": (audio, "audio")}
    for option, (value, tower) in asked.items():
        if value and (tower not in towers or backbone.own_towers):
            raise ConfigError(f"stage.{option}={value}: {backbone.name} has no joined {tower} tower; leave it out")
    if vision_stages:
        towers["image"].train_last(vision_stages)
    if audio:
        towers["audio"].train_whole()


def freeze(embedder: Embedder, parts: Iterable[str], layers: int = 0) -> None:
    """Stop gradients for the named parts, and below the first `layers` of the transformer.

    What enters the transformer (marks, connectors) has no gradient through it then. Raises ConfigError where no layer
    would be left.
    """
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
    if layers:
        own = backbone.layers()
        if layers >= len(own):
            raise ConfigError(f"stage.frozen_layers={layers}: the transformer has {len(own)}; freeze text instead")
        nn.ModuleList(own[:layers]).requires_grad_(False)
        own[layers - 1].register_forward_hook(_without_gradient)
        backbone.frozen_layers = layers


def _without_gradient(layer: nn.Module, given: tuple, made: torch.Tensor | tuple) -> torch.Tensor | tuple:
    return made.detach() if isinstance(made, torch.Tensor) else (made[0].detach(), *made[1:])


def parameter_groups(embedder: Embedder, settings: StageSettings, extra: Iterable[nn.Parameter] = ()) -> list[dict]:
    """AdamW groups by rate and decay: layers with layer-wise decay, towers, new parts, then `extra` (temperatures).

    A norm above the last layer takes the rate of that layer, what stands below the first (embeddings) the lowest.
    Biases, norms, marks and positions (tensors of fewer than two dimensions, and tables) take no weight decay.
    """
    rates: dict[int, float] = {}
    layers = embedder.backbone.layers()
    for depth, layer in enumerate(layers):
        rate = settings.learning_rate * settings.layer_decay ** (len(layers) - 1 - depth)
        rates.update((id(p), rate) for p in layer.parameters())
    bottom = settings.learning_rate * settings.layer_decay ** len(layers)
    for name, p in embedder.backbone.text.named_parameters():
        rates.setdefault(id(p), settings.learning_rate if _is_last(name) else bottom)
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
        own = settings.temperature_learning_rate
        rate = settings.new_learning_rate if own is None else own
        result.append({"params": extra, "lr": rate, "weight_decay": 0.0, "settles": False})
    return result


def _is_last(name: str) -> bool:
    parts = name.split(".")
    return not _LAST.isdisjoint(parts) and "embeddings" not in parts


def make_optimiser(
    embedder: Embedder, settings: StageSettings, steps: int, extra: Iterable[nn.Parameter] = ()
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """The optimiser and its per-step schedule over `steps` optimiser steps."""
    groups = parameter_groups(embedder, settings, extra)
    waits = [group.pop("settles") for group in groups]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)
    settled = math.ceil(settings.settle * steps)
    at_once, later = _rise_and_fall(settings, steps, 0), _rise_and_fall(settings, steps, settled)
    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, [later if wait else at_once for wait in waits])


def _rise_and_fall(settings: StageSettings, steps: int, start: int) -> Callable[[int], float]:
    """What a rate is multiplied with at each step: 0 until `start`, then transformers' schedule of that name.

    Theirs begins with a step at rate 0, which would be lost; here its second is the first.
    """
    names = {"constant": "constant_with_warmup"}
    options: dict[str, float | int] = {}
    if settings.schedule == "cosine" and settings.schedule_floor:
        names, options = {"cosine": "cosine_with_min_lr"}, {"min_lr_rate": settings.schedule_floor}
    if settings.schedule == "warmup_stable_decay":
        decay = math.ceil(settings.schedule_decay * steps)
        options = {"num_decay_steps": decay, "min_lr_ratio": settings.schedule_floor}
    factor = get_scheduler(
        names.get(settings.schedule, settings.schedule),
        torch.optim.SGD([nn.Parameter(torch.zeros(()))]),  # which it is made for, not what it is used on
        num_warmup_steps=math.ceil(settings.warmup * steps) + 1,
        num_training_steps=steps - start + 1,
        scheduler_specific_kwargs=options,
    ).lr_lambdas[0]
    return lambda step: factor(step - start + 1) if step >= start else 0.0
