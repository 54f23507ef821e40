"""Ranks per query to result rows: which queries each figure is taken over, its mean and its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from commonspace.errors import DataError
from commonspace.evaluation.intervals import DRAWS, bootstrap
from commonspace.evaluation.metrics import METRICS
from commonspace.evaluation.relevance import one_per_unit
from commonspace.evaluation.results import Row, Scored

_IDENTITY = ["task", "direction", "grouped", "dim", "query"]
EVERY = "_every_query"
_PART_METRICS = {"language": ("MRR@10",), "source": ("R@1", "MRR@10")}  # of rows by language and by source
_SIZE_METRICS = ("R@1", "NDCG@10", "MRR@10")  # of rows below full size
_LEAST_PART = 10  # queries below which a language or a source gets no row of its own


def summarise(
    table: pd.DataFrame, scored: Scored, draws: int = DRAWS, others: Sequence[pd.DataFrame] = ()
) -> list[Row]:
    """All rows of one evaluation. `table` is what `engine.ranks_table` gives, for any number of tasks and sizes.

    others  tables of the same queries in the same order from other seeds: values are means over all, and intervals
            resample seeds too
    """
    for other in others:
        if not other[_IDENTITY].equals(table[_IDENTITY]):
            raise DataError(f"{scored.model}: its seeds were scored on different queries; evaluate them together")
    rows: list[Row] = []
    by = ["task", "direction", "grouped", "dim"]
    widest = table.groupby(["task", "direction", "grouped"], sort=False)["dim"].transform("max")
    for _, part in table.groupby(by, sort=False, dropna=False):
        full = bool(part["dim"].isna().all() or (part["dim"] == widest.loc[part.index]).all())
        for selection in _selections(part, full):
            rows += _rows(selection, scored, draws, others)
    return rows


class _Selection:
    """Some queries of one task, with the names its rows carry."""

    def __init__(
        self, table: pd.DataFrame, suite: str, subset: str, language: str, source: str, metrics: tuple[str, ...]
    ) -> None:
        self.table, self.suite, self.subset = table, suite, subset
        self.language, self.source, self.metrics = language, source, metrics


def _selections(part: pd.DataFrame, full: bool) -> Iterator[_Selection]:
    """Headline and every-query rows of each subset; at full size also by language (in groups) and by source."""
    suite = str(part["suite"].iloc[0])
    everything = tuple(METRICS) if full else _SIZE_METRICS
    language = _one(part["language"])  # of several "all", even where one query a concept leaves but one of them
    subsets = [("all", part)]
    if part["near_duplicate"].notna().all():
        subsets.append(("no_near_duplicates", part[part["near_duplicate"] == ""]))
    for subset, kept in subsets:
        if kept.empty:
            continue
        head = headline(kept)
        yield _Selection(head, suite, subset, language, "all", everything)
        if len(head) < len(kept) and full:
            yield _Selection(kept, suite + EVERY, subset, language, "all", everything)
        if not full:
            continue
        column = "language" if bool(part["grouped"].iloc[0]) else "source"
        groups = list(kept.groupby(column, sort=True))
        for name, group in groups if len(groups) > 1 else []:
            if len(group) >= _LEAST_PART:
                named = (str(name), "all") if column == "language" else (_one(group["language"]), str(name))
                yield _Selection(headline(group), suite, subset, *named, _PART_METRICS[column])


def headline(table: pd.DataFrame) -> pd.DataFrame:
    """One query a concept, chosen among the queries a filter left."""
    chosen = one_per_unit(table["unit"].tolist(), table["query"].tolist(), np.ones(len(table), dtype=bool))
    return table[chosen]


def _one(values: pd.Series) -> str:
    names = set(values)
    return names.pop() or "all" if len(names) == 1 else "all"


def clusters(table: pd.DataFrame) -> list[str]:
    """What intervals resample: concepts, or units where several units share one of a handful of mesh families."""
    several = table["unit"] != table["concept"]
    return table["unit"].where(several, table["concept"]).tolist()


def _rows(selection: _Selection, scored: Scored, draws: int, others: Sequence[pd.DataFrame]) -> list[Row]:
    table, first = selection.table, selection.table.iloc[0]
    names = list(selection.metrics)
    values_SQM = np.stack([one.loc[table.index, names].to_numpy(np.float64) for one in (table, *others)])
    intervals_M2 = bootstrap(values_SQM, clusters(table), draws)
    return [
        Row(
            suite=selection.suite,
            task=str(first["task"]),
            direction=str(first["direction"]),
            split=str(first["split"]),
            subset=selection.subset,
            language=selection.language,
            source=selection.source,
            metric=metric,
            value=float(values_SQM[:, :, column].mean()),
            ci95=(float(intervals_M2[column, 0]), float(intervals_M2[column, 1])),
            queries=len(table),
            pool=float(table["pool"].mean()),
            dim=None if pd.isna(first["dim"]) else int(first["dim"]),
            precision=scored.precision,
            prefix_policy=scored.prefix_policy,
            model=scored.model,
            stage=scored.stage,
            seed=scored.seed,
            run_id=scored.run_id,
            commit=scored.commit,
            command=scored.command,
        )
        for column, metric in enumerate(selection.metrics)
    ]
