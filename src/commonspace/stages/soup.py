"""Stage 3: average the weights of fine-tuned models (paper, section 3.3), in the way that `method` names.

*The* soup is the greedy one. By construction it scores at least as well on dev as its best ingredient; what that is
worth on held-out data is for the evaluation to say. `weights` are ratios of the ingredients, kept in every average that
greedy tries; without them all count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from commonspace.config_values import resolved
from commonspace.models.averaging import greedy
from commonspace.models.blend import Blend
from commonspace.stages.soup_folder import save_soup, soup_recipe
from commonspace.stages.soup_kitchen import Kitchen

console = Console()


def soup(config: DictConfig) -> float:
    """Make the soup that `method` names and, with `uniform_output`, the average of all; returns the mean dev MRR@10."""
    plain = resolved(config)
    kitchen = Kitchen.of(plain)
    everyone = Blend(tuple(range(len(kitchen.ingredients))), _of(plain["weights"], range(len(kitchen.ingredients))))
    for number in everyone.members:
        kitchen.score(Blend((number,)))
    trials = None
    if plain["method"] == "greedy":
        trials = greedy(everyone.members, lambda members: kitchen.score(Blend(members, _of(plain["weights"], members))))
        blend = Blend(trials.members, _of(plain["weights"], trials.members))
    elif plain["method"] == "learned":
        blend = kitchen.learn(plain["learned"])
    else:
        blend = Blend(everyone.members, everyone.ratios, path="sphere" if plain["method"] == "slerp" else "straight")
    kept = [(blend, plain["method"], plain["output"], trials)]
    if plain["uniform_output"]:
        kept.append((everyone, "weighted" if plain["weights"] else "uniform", plain["uniform_output"], trials))
    for one, kind, output, tried in kept:
        kitchen.score(one)
        recipe = soup_recipe(kitchen, one, kind, tried)
        save_soup(kitchen, one, Path(output), recipe)
        kitchen.trace(one, Path(output), kind)
        names = ", ".join(kitchen.ingredients[member].label for member in one.members)
        console.print(f"{output}: saved the {kind} soup of {names}, dev MRR@10 {recipe['dev']['mean']:.4f}")
    best = kitchen.score(blend)
    kitchen.show(blend)
    kitchen.close()
    return best


def _of(weights: Sequence[float] | None, members: Sequence[int]) -> tuple[float, ...] | None:
    return None if weights is None else tuple(weights[member] for member in members)
