"""A family of cells: what its config sweeps, and the runs that are its cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from commonspace.data.rates import MEDIA, medium_of
from commonspace.errors import DataError
from commonspace.evaluation.kept_scores import SCORES, read_queries, read_scores
from commonspace.tracking.record import last_start

REFERENCE = "cell"  # tag of the runs that change nothing
# A family that fixes one of these would compare that with the base, not what it varies.
OWN_BASE = {"init", "objective.reverse", "stage.steps", "data.spread_concepts"}
_SAYS_NOTHING = {"name", "tags", "hydra"}
_DECIDE_RATES = {"data.without", "data.dirichlet"}  # a run's config has the rates that came of them
_SETTINGS = ("init", "weights", "model", "data", "objective", "stage")  # what a cell's figures depend on, seeds apart


@dataclass(frozen=True)
class Family:
    """What a file of the `ablation` group says.

    about   its own first lines
    swept   {key: the values as it lists them}
    fixed   what all its cells change, by dotted key
    """

    name: str
    about: str
    swept: Mapping[str, str]
    fixed: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many cells it has: one for every combination of the values listed."""
        parsed = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in self.swept.items()])
        return math.prod(len(list(one.sweep_iterator())) for one in parsed if one.is_sweep_override())

    def says(self, key: str) -> bool:
        """Whether it is by this family that cells differ in a setting."""
        own = {*self.fixed, *self.swept}
        own |= {"data.tasks"} if own & _DECIDE_RATES else set()
        return any(f"{key}.".startswith(f"{one}.") for one in own)

    @property
    def varied(self) -> tuple[str, ...]:
        """The keys whose values make a level; cells of one differ by seed."""
        return tuple(key for key in self.swept if key != "seed")


def read_family(path: Path) -> Family:
    """The family of a config file; DataError where it sweeps nothing."""
    config = OmegaConf.to_container(OmegaConf.load(path))
    about = [line.removeprefix("# ") for line in path.read_text().splitlines()[2:] if line.startswith("# ")]
    try:
        swept = {key: str(values) for key, values in config["hydra"]["sweeper"]["params"].items()}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: is no family of cells: it has no hydra.sweeper.params") from error
    return Family(
        path.stem,
        " ".join(about),
        swept,
        tuple(_flat({key: value for key, value in config.items() if key not in _SAYS_NOTHING})),
    )


@dataclass(frozen=True)
class Cell:
    """A run that has ended: where it lies, its resolved config, its dev scores by task and their mean."""

    folder: Path
    config: Mapping[str, Any]
    scores: Mapping[str, float]
    start: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.config["name"]

    @property
    def commit(self) -> str:
        """The code's commit, short, with "+" where it had changes."""
        code = self.start.get("run", {}).get("code", {})
        return str(code.get("commit"))[:12] + ("+" if code.get("dirty") else "")

    def value(self, key: str) -> Any:
        """A value of its config by dotted key, lists as tuples."""
        found = OmegaConf.select(OmegaConf.create(dict(self.config)), key)
        return tuple(found) if OmegaConf.is_list(found) else found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What its figures depend on, by dotted key: `init.bytes` is the model it began from, `rows.TASK/SPLIT` its
        data, `data.negatives.TASK/negatives` its mined lists."""
        told = self.start.get("data_fingerprints", {})
        rows = {
            f"data.negatives.{name}" if name.endswith("negatives") else f"rows.{name}": found
            for name, found in told.items()
        }
        known = {"init.bytes": found} if (found := self.start.get("init_fingerprint")) else {}
        return {**_flat({key: self.config[key] for key in _SETTINGS}), **rows, **known}

    def differs(self, other: Cell) -> set[str]:
        """Settings of both that are not the same: options that one of them did not know yet are none."""
        return {
            key for key in self.settings.keys() & other.settings.keys() if self.settings[key] != other.settings[key]
        }

    @cached_property
    def queries(self) -> pd.DataFrame:
        """Its dev queries, one line each."""
        return read_queries(self.folder)

    def shares(self) -> dict[str, float]:
        """Share of its batches that each medium had, by the schedule it drew."""
        steps = dict.fromkeys(MEDIA, 0.0)
        for row in self.start["arithmetic"]["schedule"]:
            steps[medium_of(self.config["data"]["tasks"][row["task"]]["direction"])] += row["steps"]
        total = math.fsum(steps.values())
        return {medium: count / total for medium, count in steps.items()}


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """By dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, dict) and value else {f"{before}{key}": value}
    return found


def read_cells(runs: Path) -> list[Cell]:
    """The cells below a folder of runs, of each name the one that started last, by name.

    A cell is a run with the tag `ablation` that was scored on every task, as those of `experiment=TIER/cell` are.
    """
    latest: dict[str, Cell] = {}
    for cell in sorted(_ended(runs), key=lambda one: one.start.get("time", 0.0)):
        latest[cell.name] = cell
    return [latest[name] for name in sorted(latest)]


def _ended(runs: Path) -> Iterator[Cell]:
    for path in runs.glob(f"*/*/{SCORES}"):
        config = OmegaConf.to_container(OmegaConf.load(path.parent / "config.yaml"))
        if "ablation" in config["tags"] and config["stage"].get("dev_undrawn"):
            yield Cell(path.parent, config, read_scores(path.parent) or {}, last_start(path.parent))
