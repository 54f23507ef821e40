"""Two models on the same queries: the primary measure, and paired differences of every task.

The primary measure of a task asked both ways is the mean over both directions of MRR@10, one query a concept, queries
without near-duplicates, full gallery. It is compared in pairs with late fusion, Holm over image-text and speech-text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commonspace.errors import DataError
from commonspace.evaluation.intervals import DRAWS, Difference, holm, paired_difference
from commonspace.evaluation.results import read_ranks, read_rows, rows_path
from commonspace.evaluation.specs import COMPOSED, PRIMARY
from commonspace.evaluation.summary import clusters, headline
from commonspace.files import write_text


@dataclass(frozen=True)
class Compared:
    """A paired difference of one measure between two models.

    task, direction  direction "both" is the mean over the two
    first, second    means of the two models over the same queries and all their seeds
    p_holm           adjusted over the family it was reported in; None outside a family
    made             what made the rows of the two (`maker`): a difference that is kept is of these and of no others
    """

    task: str
    direction: str
    metric: str
    subset: str
    model: str
    baseline: str
    first: float
    second: float
    difference: Difference
    p_holm: float | None = None
    made: tuple[str, str] = ("", "")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def comparable(table: pd.DataFrame, task: str, subset: str) -> pd.DataFrame:
    """One query a concept and direction at full size, of all seeds; the same choice for every model.

    Of composed queries all: which relation of a concept is asked must not be left to a draw. Queries that are ranked
    among their own language count where a task has no others.
    """
    part = table[table["task"] == task]
    part = part[~part["grouped"]] if (~part["grouped"].astype(bool)).any() else part
    part = part[part["dim"].isna() | (part["dim"] == part["dim"].max())]
    if subset == "no_near_duplicates":
        part = part[part["near_duplicate"].fillna("?") == ""]
    if task in COMPOSED:
        return part
    kept = [headline(some) for _, some in part.groupby(["direction", "seed"], dropna=False, sort=True)]
    return pd.concat(kept, ignore_index=True) if kept else part


def compare(
    first: pd.DataFrame, second: pd.DataFrame, task: str, metric: str, subset: str, direction: str = "both"
) -> tuple[float, float, Difference] | None:
    """Means of two models and their paired difference, None where the task has no such queries.

    Directions weigh the same however many queries each has. Raises DataError where the queries are not the same.
    """
    sides = [comparable(table, task, subset) for table in (first, second)]
    if direction != "both":
        sides = [side[side["direction"] == direction] for side in sides]
    if any(side.empty for side in sides):
        return None
    matrices = [_matrix(side, metric) for side in sides]
    if list(matrices[0].columns) != list(matrices[1].columns):
        raise DataError(f"{task}: the two models were scored on different queries; evaluate both on the same data")
    units = dict(zip(zip(sides[0]["direction"], sides[0]["query"], strict=True), clusters(sides[0]), strict=True))
    names = [units[key] for key in matrices[0].columns]
    ways = pd.Series([key[0] for key in matrices[0].columns])
    weights = (len(ways) / ways.map(ways.value_counts()) / ways.nunique()).to_numpy(dtype=np.float64)
    weighted = [matrix.to_numpy(dtype=np.float64) * weights for matrix in matrices]
    return float(weighted[0].mean()), float(weighted[1].mean()), paired_difference(*weighted, names, DRAWS)


def _matrix(side: pd.DataFrame, metric: str) -> pd.DataFrame:
    """[seeds, queries] of one metric."""
    side = side.assign(seed=side["seed"].astype("Int64").fillna(-1))
    return side.pivot(index="seed", columns=["direction", "query"], values=metric).sort_index(axis=1)


def primary(folder: Path, model: str, baseline: str = "late_fusion", metric: str = "MRR@10") -> list[Compared]:
    """The primary measure of image-text and speech-text against the baseline, Holm over those there are."""
    return compare_models(folder, model, baseline, PRIMARY, metric)


def compare_models(
    folder: Path,
    model: str,
    baseline: str,
    tasks: Sequence[str],
    metric: str = "MRR@10",
    subset: str = "no_near_duplicates",
) -> list[Compared]:
    """Each task as the mean of its directions; p values adjusted by Holm over the tasks found."""
    first, second = read_ranks(folder, model), read_ranks(folder, baseline)
    made = maker(folder, model), maker(folder, baseline)
    found = []
    for task in tasks:
        result = compare(first, second, task, metric, subset)
        if result is not None:
            found.append(Compared(task, "both", metric, subset, model, baseline, *result, made=made))
    adjusted = holm([one.difference.p for one in found])
    return [replace(one, p_holm=p) for one, p in zip(found, adjusted, strict=True)]


def maker(folder: Path, model: str) -> str:
    """The run that a model's rows are of, or the commits where it names none; empty without rows."""
    path = rows_path(folder, model)
    return "+".join(sorted({row.run_id or row.commit or "" for row in read_rows(path)})) if path.exists() else ""


def still_true(folder: Path, kept: Sequence[Compared]) -> list[Compared]:
    """Those of the models whose rows lie here now: a name alone may have been trained again since."""
    makers = {name: maker(folder, name) for one in kept for name in (one.model, one.baseline)}
    return [one for one in kept if one.made == (makers[one.model], makers[one.baseline])]


def write_comparisons(folder: Path, found: Sequence[Compared]) -> Path:
    """Replace `comparisons.json`: paired differences outlive the ranks they were made of, which git ignores."""
    path = folder / "comparisons.json"
    values = [
        {**one.to_json(), "difference": {k: round(v, 6) for k, v in asdict(one.difference).items()}} for one in found
    ]
    write_text(path, json.dumps(values, indent=1) + "\n")
    return path


def read_comparisons(folder: Path) -> list[Compared]:
    """What `write_comparisons` wrote; nothing where it never did."""
    path = folder / "comparisons.json"
    if not path.exists():
        return []
    values = json.loads(path.read_text())
    return [
        Compared(
            **{**value, "difference": Difference(**value["difference"]), "made": tuple(value.get("made", ("", "")))}
        )
        for value in values
    ]
