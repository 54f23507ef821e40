"""A family of cells: what its config sweeps, and the runs that are its cells."""

from __future__ import annotations

import json
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

REFERENCE = "cell"  # tag of the runs that change nothing
OWN_BASE = {
    "init",
    "objective",
}  # a family that fixes one of these would compare that with the base, not what it varies
_SAYS_NOTHING = {"name", "tags", "hydra"}


@dataclass(frozen=True)
class Family:
    """What a file of the `ablation` group says.

    about   its own first lines
    swept   {key: the values as it lists them}
    fixed   what all its cells change
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
    return Family(path.stem, " ".join(about), swept, tuple(key for key in config if key not in _SAYS_NOTHING))


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


def read_cells(runs: Path) -> list[Cell]:
    """The cells below a folder of runs, of each name the one that started last, by name."""
    latest: dict[str, Cell] = {}
    for cell in sorted(_ended(runs), key=lambda one: one.start.get("time", 0.0)):
        latest[cell.name] = cell
    return [latest[name] for name in sorted(latest)]


def _ended(runs: Path) -> Iterator[Cell]:
    for path in runs.glob(f"*/*/{SCORES}"):
        config = OmegaConf.to_container(OmegaConf.load(path.parent / "config.yaml"))
        if "ablation" in config["tags"]:
            scores, starts = read_scores(path.parent), (path.parent / "starts.jsonl").read_text().splitlines()
            yield Cell(path.parent, config, scores or {}, json.loads(starts[-1]))
