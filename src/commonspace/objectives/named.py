"""The losses that a config's `objective` group may name, and which of its keys are of any loss. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from commonspace.errors import ConfigError
from commonspace.objectives.nce_options import NCEOptions
from commonspace.objectives.sigmoid_options import SigmoidOptions

Options = NCEOptions | SigmoidOptions
LOSSES: dict[str, type[NCEOptions] | type[SigmoidOptions]] = {"nce": NCEOptions, "sigmoid": SigmoidOptions}
OF_ANY = ("name", "matryoshka", "matryoshka_weights", "spread")


def options_of(group: Mapping[str, Any]) -> Options:
    """The options of the loss that `group` names; an unknown loss or an option it lacks raises ConfigError."""
    name = group["name"]
    if name not in LOSSES:
        raise ConfigError(f"name={name} is no loss of this group; choose one of {', '.join(LOSSES)}")
    own = (*OF_ANY, "reverse") if name == "nce" else OF_ANY
    return LOSSES[name].from_config({key: value for key, value in group.items() if key not in own})
