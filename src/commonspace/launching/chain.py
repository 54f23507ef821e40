"""The steps of a recipe as jobs that wait for one another: stages, mining, soups and evaluations in their order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from commonspace.cli import overrides_of, split_command
from commonspace.commands import COMMANDS
from commonspace.config_values import resolved
from commonspace.configuration import compose
from commonspace.errors import ConfigError
from commonspace.launching.jobs import Job, composed, resources_of, without_launcher
from commonspace.recipe import Recipe, read_steps


def chain_jobs(name: str, words: Sequence[str], launcher: Sequence[str]) -> list[Job]:
    """A job for every step that is missing or changed, and for those that come after one; first things first.

    `words` are overrides of the recipe (only=[...] takes just these steps), `launcher` those that say how to launch.
    """

    config = compose("recipe", [f"recipe={name}", *words])
    plain = resolved(config, ["paths", "recipe", "only", "again"])
    folder = Path(plain["paths"]["runs"]) / plain["recipe"]["tier"] / "recipe"
    recipe = Recipe(read_steps(plain["recipe"]["steps"], plain["paths"]), folder)
    wanted = recipe.order if plain["only"] is None else [recipe.step(step).name for step in plain["only"]]
    jobs: dict[str, Job] = {}
    for step in (recipe.step(step) for step in recipe.order if step in wanted):
        after = tuple(before for before in recipe.before[step.name] if before in jobs)
        if not after and step.name not in plain["again"] and recipe.is_current(step, recipe.key(step)):
            continue
        command, rest = split_command(list(step.words))
        own = overrides_of(command, rest)
        resources, extra = resources_of(composed(COMMANDS[command], [*own, *launcher]))
        jobs[step.name] = Job(step.name, command, (*without_launcher(own), *extra), resources, after)
    if not jobs:
        raise ConfigError(
            f"recipe {name}: nothing to do, every step is as its last run left it; name some in again=[...]"
        )
    return list(jobs.values())
