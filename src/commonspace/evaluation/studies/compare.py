"""A family's levels against the reference: differences in pairs of equal seed, over seeds and concepts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commonspace.errors import DataError
from commonspace.evaluation.intervals import Difference, difference_over_seeds, holm
from commonspace.evaluation.studies.family import OWN_BASE, REFERENCE, Cell, Family

FOLDER = "ablations"  # keeps what was read of runs, which are not in git


@dataclass(frozen=True)
class Level:
    """One setting of what a family varies.

    values          what the family varies, by dotted key, as this level has it; none for runs of the base alone
    cells, commits  names of its cells with their mean dev MRR@10, and the commits they ran at
    by_task         {task and direction: mean over its cells}
    pairs           how many of them met a reference cell of equal seed
    difference      to the reference over these pairs; None for the reference itself, or where none met
    shares          share of the batches of each medium, mean over its cells
    """

    label: str
    cells: Mapping[str, float]
    commits: tuple[str, ...]
    by_task: Mapping[str, float]
    shares: Mapping[str, float]
    pairs: int = 0
    difference: Difference | None = None
    p_holm: float | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean dev MRR@10 of its cells."""
        return float(np.mean(list(self.cells.values())))


@dataclass(frozen=True)
class Study:
    """A family read: its levels in the order of their values, and which of them is the reference, if one is.

    seeds, found  of the family's own cells that have ended; `expected` of them there are
    odd           cells that are left out, with the settings in which they differ though the family does not say so
    began         fingerprints of the models that its cells began from, short; none where runs did not say
    """

    family: str
    about: str
    seeds: int
    found: int
    expected: int
    levels: tuple[Level, ...]
    reference: str | None
    odd: Mapping[str, Sequence[str]] = field(default_factory=dict)
    began: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Study:
        """Inverse of `to_json`."""
        levels = [
            Level(
                **{
                    **one,
                    "commits": tuple(one["commits"]),
                    "difference": _difference(one["difference"]),
                    "values": {key: tuple(v) if isinstance(v, list) else v for key, v in one.get("values", {}).items()},
                }
            )
            for one in value["levels"]
        ]
        return cls(**{**value, "levels": tuple(levels), "began": tuple(value.get("began", ()))})


def read_studies(folder: Path) -> list[Study]:
    """Those that are kept beside a tier's results, larger families first; none where none was ever read."""
    found = [Study.from_json(json.loads(path.read_text())) for path in (folder / FOLDER).glob("*.json")]
    return sorted(found, key=lambda one: (-one.expected, one.family))


def _difference(value: Mapping[str, Any] | None) -> Difference | None:
    return None if value is None else Difference(**value)


def study(family: Family, cells: Sequence[Cell]) -> Study | None:
    """A family's levels of the cells that ended, None where none has.

    The reference are the runs of the base experiment alone, beside those of the family that are the same. A family
    whose cells all differ from the base in `OWN_BASE` has a level of its own for that: the one that varies nothing, or
    its first. Cells that differ from the base in what is not the family's are left out, and named; DataError where
    none is left.
    """
    base, odd = _alike([cell for cell in cells if REFERENCE in cell.config["tags"]])
    own, family_odd = [], {}
    for cell in (cell for cell in cells if family.name in cell.config["tags"]):
        wrong = {key for key in (cell.differs(base[0]) if base else ()) if not family.says(key)}
        if wrong:
            family_odd[cell.name] = sorted(wrong)
        else:
            own.append(cell)
    if not own and family_odd:
        name, keys = next(iter(family_odd.items()))
        raise DataError(
            f"all {len(family_odd)} cells that ended differ from {base[0].folder} in more than the family says, as "
            f"{name} does in {', '.join(keys[:3])}; what was kept of it before stands; to read these, train the base "
            "as they were (commonspace train experiment=TIER/cell seed=1)"
        )
    if not own:
        return None
    odd |= family_odd
    levels: dict[str, list[Cell]] = {}
    for cell in sorted(own, key=lambda one: [_order(one.value(key)) for key in family.varied]):
        levels.setdefault(_label(family, cell), []).append(cell)
    reference = _reference(family, levels, base)
    if reference is not None and not OWN_BASE & set(family.fixed):
        known = {cell.value("seed") for cell in levels.get(reference, ())}
        levels.setdefault(reference, []).extend(cell for cell in base if cell.value("seed") not in known)
    read = [_read(family, label, some) for label, some in levels.items()]
    against = levels.get(reference, ()) if reference is not None else ()
    read = [one if one.label == reference else _compared(one, levels[one.label], against) for one in read]
    seeds = len({cell.value("seed") for cell in own})
    began = tuple(sorted({str(known)[:8] for cell in own if (known := cell.start.get("init_fingerprint"))}))
    return Study(
        family.name, family.about, seeds, len(own), family.count, tuple(_adjusted(read)), reference, odd, began
    )


def _alike(base: Sequence[Cell]) -> tuple[list[Cell], dict[str, list[str]]]:
    """Runs of the base that differ in nothing from the one that started last, and of the others what they differ in."""
    if not base:
        return [], {}
    latest = max(base, key=lambda cell: cell.start.get("time", 0.0))
    wrong = {cell.name: sorted(cell.differs(latest)) for cell in base}
    return [cell for cell in base if not wrong[cell.name]], {name: keys for name, keys in wrong.items() if keys}


def _reference(family: Family, levels: Mapping[str, Sequence[Cell]], base: Sequence[Cell]) -> str | None:
    """The label of the level that others are compared with: the base's, its own or a family's; None without a base."""
    same = _label(family, base[0]) if base else None
    if OWN_BASE & set(family.fixed):
        return same if same in levels else next(iter(levels))
    if not base:
        return None
    return same if family.varied and not family.fixed and same in levels else REFERENCE


def _label(family: Family, cell: Cell) -> str:
    words = [f"{key.rpartition('.')[2].replace('_', ' ')} {_words(cell.value(key))}" for key in family.varied]
    return ", ".join(words) or family.name.replace("_", " ")


def _order(value: Any) -> tuple[float, str]:
    return (float(value), "") if isinstance(value, int | float) else (0.0, "" if value == () else str(value))


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(str, value)) or "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value).rpartition("/")[2]


def _read(family: Family, label: str, cells: Sequence[Cell]) -> Level:
    scores = pd.DataFrame([cell.scores for cell in cells])
    tasks = [name for name in scores if name != "mean" and not name.endswith(" gap")]
    shares = pd.DataFrame([cell.shares() for cell in cells]).mean()
    return Level(
        label,
        {cell.name: round(cell.scores["mean"], 6) for cell in cells},
        tuple(sorted({cell.commit for cell in cells})),
        {name: round(float(scores[name].mean()), 6) for name in tasks},
        {medium: round(float(share), 6) for medium, share in shares.items()},
        values={} if label == REFERENCE else {key: cells[0].value(key) for key in family.varied},
    )


def _compared(level: Level, cells: Sequence[Cell], against: Sequence[Cell]) -> Level:
    others = {cell.value("seed"): cell for cell in against}
    pairs = [(cell, others[cell.value("seed")]) for cell in cells if cell.value("seed") in others]
    if not pairs:
        return level
    return replace(level, pairs=len(pairs), difference=paired([(one.queries, other.queries) for one, other in pairs]))


def paired(pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> Difference:
    """First less second of the mean dev score, over pairs of runs on the same queries.

    Tasks weigh the same, as do both directions of one. A single pair says nothing about seeds. Raises
    DataError where two runs were asked other queries.
    """
    key = ["task", "direction", "query"]
    first, *_ = tables = [frame.set_index(key)["reciprocal_rank"] for pair in pairs for frame in pair]
    if any(not table.index.equals(first.index) for table in tables):
        raise DataError("two cells were scored on different dev queries; run them again on the same data")
    gaps_PQ = np.stack([(one - other).to_numpy() for one, other in zip(tables[::2], tables[1::2], strict=True)])
    queries = pairs[0][0]
    asked = queries.groupby(["task", "direction"])["query"].transform("size")
    ways = queries.groupby("task")["direction"].transform("nunique")
    weights_Q = len(queries) / (asked * ways * queries["task"].nunique()).to_numpy(dtype=np.float64)
    return difference_over_seeds(gaps_PQ * weights_Q, list(queries["concept"]))


def _adjusted(levels: Sequence[Level]) -> list[Level]:
    tested = [level.difference.p for level in levels if level.difference is not None]
    adjusted = iter(holm(tested) if tested else ())
    return [level if level.difference is None else replace(level, p_holm=next(adjusted)) for level in levels]
