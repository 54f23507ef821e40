"""Cells of an ablation, read back from their runs: what each changed, what it reached, what tells levels apart."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from commonspace.data.rates import MEDIA, medium_of
from commonspace.errors import DataError
from commonspace.evaluation.intervals import holm
from commonspace.evaluation.studies.family import REFERENCE
from commonspace.tracking.identity import config_hash
from commonspace.tracking.reader import Run
from commonspace.tracking.runs import lookup

_MEASURED = ("run", "arithmetic", "data_fingerprints", "init_fingerprint")  # of a run, beside what it was given


@dataclass(frozen=True)
class Contrast:
    """One level of a factor against the reference level, over the cells that differ in nothing else.

    value, low, high  mean paired difference and its 95% interval (Student's t over pairs); without width for one pair
    pairs             how many cells were compared; one says nothing about seeds, and has neither interval nor p
    p, p_holm         two-sided, as it is and adjusted over all levels of the family
    """

    level: str
    value: float
    low: float
    high: float
    pairs: int
    p: float | None
    p_holm: float | None


def cells(runs: Sequence[Run], family: str, factors: Sequence[str], tier: str, start: str = "pretrain") -> pd.DataFrame:
    """A row for each finished cell of a family (runs with its tag): `run`, `name`, the factors, and final/<score>.

    Cells are the runs of `experiment=TIER/cell`: of one tier, from the one model whose folder `start` names (or its
    path's end), and keeping none (save: false), which sets them apart from fine-tunes that carry the tag. Of cells that
    ran again the latest counts. Raises DataError where no cell of the family has a final score, and where cells
    of the tier begin at several models of that name.
    """
    rows = {}
    for run in _cells(runs, tier, start):
        if family in run.tags and lookup(run, "final/mean") is not None:
            told = {factor: _plain(lookup(run, factor)) for factor in factors}
            scores = {name: lookup(run, name) for name in run.history if name.startswith("final/")}
            rows[run.name] = {"run": run.run_id, "name": run.name, **told, **scores}
    if not rows:
        command = f"experiment={tier}/cell" + (f" ablation={family}" if family != REFERENCE else " seed=1,2,3")
        raise DataError(
            f"no finished cell of tier {tier} from {start!r} has the tag {family!r}; run "
            f"`commonspace train -m {command}` first"
        )
    return pd.DataFrame(list(rows.values()))


def base_cells(
    runs: Sequence[Run], family: pd.DataFrame, factors: Sequence[str], tier: str, start: str = "pretrain"
) -> pd.DataFrame:
    """The `cells` tagged `cell` that change nothing: but for `factors`, a config like that of the family's first cell.

    Raises DataError where there are none.
    """
    (like,) = (_beside(run, factors) for run in runs if run.run_id == family["run"].iloc[0])
    return cells([run for run in runs if _beside(run, factors) == like], REFERENCE, factors, tier, start)


def _cells(runs: Sequence[Run], tier: str, start: str) -> list[Run]:
    parts = Path(start).parts
    found = [run for run in runs if run.setting("save") is False and run.setting("data.tier") == tier]
    found = [run for run in found if Path(run.setting("init") or "").parts[-len(parts) :] == parts]
    if len(starts := sorted({run.setting("init") for run in found})) > 1:
        raise DataError(f"cells of tier {tier} begin at {', '.join(starts)}; name the one to read by its whole path")
    return found


def _beside(run: Run, factors: Sequence[str]) -> str:
    """Hash of what a run computes, but for factors."""
    config = deepcopy({key: value for key, value in run.config.items() if key not in ("name", *_MEASURED)})
    rates = ["data.tasks"] if {"data.without", "data.dirichlet"} & set(factors) else []  # they decide those
    for factor in (*factors, *rates):
        *groups, last = factor.split(".")
        node = config
        for group in groups:
            node = node.get(group, {})
        node.pop(last, None)
    return config_hash(config)


def contrasts(
    table: pd.DataFrame, factor: str, reference: object, beside: Sequence[str], score: str = "final/mean"
) -> list[Contrast]:
    """Every level of `factor` against `reference`, paired over the factors `beside` (seeds, learning rates).

    A pair with a cell missing is left out; a level without any pair is not told of. Raises DataError where the
    reference has no cell, or two cells agree in all factors.
    """
    if table.duplicated([factor, *beside]).any():
        raise DataError(f"{factor}: two cells agree in {', '.join([factor, *beside])}; name the factor they differ in")
    wide = table.pivot(index=list(beside), columns=factor, values=score)
    if reference not in wide:
        raise DataError(f"{factor}: no cell at the reference {reference!r}; there are {list(wide.columns)}")
    found = []
    for level in wide.columns:
        if level == reference:
            continue
        gaps = (wide[level] - wide[reference]).dropna().to_numpy(dtype=np.float64)
        if len(gaps):
            found.append(_contrast(str(level), gaps))
    tested = [one for one in found if one.p is not None]
    adjusted = dict(zip((one.level for one in tested), holm([one.p for one in tested]), strict=True)) if tested else {}
    return [Contrast(**{**one.__dict__, "p_holm": adjusted.get(one.level)}) for one in found]


def _contrast(level: str, gaps: np.ndarray) -> Contrast:
    mean, count = float(gaps.mean()), len(gaps)
    if count < 2:
        return Contrast(level, mean, mean, mean, count, None, None)
    error = float(gaps.std(ddof=1)) / np.sqrt(count)
    reach = float(t.ppf(0.975, count - 1)) * error
    p = float(2 * t.sf(abs(mean) / error, count - 1)) if error else float(mean == 0)
    return Contrast(level, mean, mean - reach, mean + reach, count, p, None)


def _plain(value: object) -> object:
    """A factor's value as something a table can be sorted by."""
    return "-".join(map(str, value)) or "none" if isinstance(value, list) else value


def medium_shares(run: Run) -> dict[str, float]:
    """Share of a run's batches that each medium had, counted from its schedule, which the rates alone do not decide.

    Raises DataError for a run that keeps no schedule.
    """
    schedule, tasks = run.setting("arithmetic.schedule"), run.setting("data.tasks")
    if not schedule or not tasks:
        raise DataError(f"run {run.run_id}: its log has no schedule of tasks; was it a training run?")
    steps: dict[str, float] = {}
    for row in schedule:
        medium = medium_of(tasks[row["task"]]["direction"])
        steps[medium] = steps.get(medium, 0.0) + float(row["steps"])
    total = sum(steps.values())
    return {medium: steps.get(medium, 0.0) / total for medium in MEDIA}
