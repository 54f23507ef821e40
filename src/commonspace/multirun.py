"""What `-m` would run, looked at before anything does: jobs that leave their work in one place would lose it.

Hydra starts the jobs of a sweep without comparing them. Two trainings that differ in a seed but not in `name` have one
model folder, and the second replaces what the first took an hour to make.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from commonspace.commands import Command
from commonspace.configuration import compose
from commonspace.errors import ConfigError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_FLAGS = ("-m", "--multirun")
_PRINTS = ("-c", "--cfg")


def check_multirun(command: Command, words: Sequence[str]) -> None:
    """Refuse a sweep whose jobs share the places of `command.leaves`; a command line without `-m` passes.

    Raises ConfigError that names the swept options, the place and a name that would tell the jobs apart.
    """
    if not any(word in _FLAGS for word in words):
        return
    if any(word in _PRINTS or word.startswith("--cfg=") for word in words):
        raise ConfigError("--cfg prints the config of one job; leave out -m and give every option one value")
    if not command.leaves:
        return
    given = [word for word in words if not word.startswith("-")]
    overrides = [*swept(command.root, given), *given]
    seen: dict[tuple[Any, ...], list[str]] = {}
    for job in jobs(overrides):
        # What is wrong with its config is for the job itself to say.
        place = place_of(command, compose(command.root, job, check=False))
        if place in seen:
            raise ConfigError(_shared(place, seen[place], job))
        seen[place] = job


def swept(root: str, overrides: Sequence[str]) -> list[str]:
    """What a config sweeps by itself, as an ablation's family does (`hydra.sweeper.params`), as overrides.

    Hydra puts them before those of the command line, which do not replace them: a key in both is swept by both.
    """
    single = [word for word in overrides if not _parsed(word).is_sweep_override()]
    config = compose(root, single, check=False, with_hydra=True)
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return [f"{key}={params[key]}" for key in params]


def jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every job, as hydra's own sweeper makes them: each combination of the values given.

    Ranges without steps (`interval`, for a sweeper that draws from them) make no list of jobs: none is returned.
    """
    parsed = [_parsed(word) for word in overrides]
    if any(one.is_sweep_override() and not one.is_discrete_sweep() for one in parsed):
        return []
    choices = [
        [f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()]
        if one.is_sweep_override()
        else [one.input_line or ""]
        for one in parsed
    ]
    return [list(job) for job in itertools.product(*choices)]


def is_swept(overrides: Sequence[str]) -> bool:
    """Whether an option is given several values, or a range to draw them from."""
    return any(_parsed(word).is_sweep_override() for word in overrides if not word.startswith("-"))


def _parsed(word: str) -> Override:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise ConfigError(f"{word}: hydra cannot read it ({str(error).splitlines()[0]})") from error


def place_of(command: Command, config: DictConfig) -> tuple[Any, ...]:
    """Where a job of this config leaves its work."""
    return tuple(OmegaConf.select(config, key) for key in command.leaves)


def _shared(place: tuple[Any, ...], first: Sequence[str], second: Sequence[str]) -> str:
    where = " ".join(str(part) for part in place if part is not None)
    differ = [pair for pair in zip(first, second, strict=True) if pair[0] != pair[1]]
    this, that = (" ".join(words) for words in zip(*differ, strict=True))
    key = differ[0][0].partition("=")[0].lstrip("+")
    return (
        f"-m: the jobs {this!r} and {that!r} would both write {where}; name each after what differs, "
        f"as in 'name=NAME_${{{key}}}' or 'output=FOLDER/${{{key}}}'"
    )
