"""Activation checkpointing: keep what enters a layer, compute the rest of it again in the backward pass.

The libraries do it, layer by layer: transformers in its own layers, timm (and open_clip) in a trunk's blocks. Theirs is
the form that is not reentrant: a layer whose input needs no gradient, behind frozen layers or word embeddings, still
gives gradients to what trains in it, adapters included. Random numbers are drawn again as they were: dropout stays.
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from commonspace.errors import ConfigError
from commonspace.models.backbones.base import Backbone


def checkpoint_activations(backbone: Backbone) -> list[str]:
    """Switch it on, for training alone, in every part that a gradient passes; their names: "text", then towers.

    A tower is passed where it trains; the transformer also where only what stands before it does: a tower, a connector,
    the marks around media. Raises ConfigError where nothing is passed, and where a part has layers that cannot do it.
    """
    passed: dict[str, nn.Module] = {name: tower for name, tower in backbone.towers().items() if _trains(tower)}
    if _trains(backbone.text) or (backbone.towers() and _trains(backbone)):
        passed = {"text": backbone.text, **passed}
    if not passed:
        raise ConfigError(
            "stage.gradient_checkpointing: no gradient passes the transformer or a tower, so nothing is kept for one; "
            "set it to false"
        )
    for name, part in passed.items():
        if not _switch_on(part):
            raise ConfigError(
                f"stage.gradient_checkpointing: layers of {name} cannot compute themselves again; freeze that part, or "
                "set it to false and lower stage.cache_tokens"
            )
    return list(passed)


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _switch_on(module: nn.Module) -> bool:
    """Whether a module, or some inside it, took the switch."""
    if isinstance(module, PreTrainedModel) and module.supports_gradient_checkpointing:
        # transformers renamed it, and warns at the older name.
        enable = getattr(module, "activation_checkpointing_enable", module.gradient_checkpointing_enable)
        try:
            enable({"use_reentrant": False})
        except ValueError:  # how transformers says that no layer of a model can
            return False
        # It also makes word embeddings ask for gradients, which reentrant checkpoints need and frozen layers pay for.
        module.disable_input_require_grads()
        return True
    if callable(switch := getattr(module, "set_grad_checkpointing", None)):
        try:
            switch(True)
        except AssertionError:  # how timm says that a trunk has none
            return False
        return True
    taken = [_switch_on(child) for child in module.children()]
    return any(taken)
