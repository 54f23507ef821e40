"""Result rows arranged for readers: which models, which tasks, and the tables of the report as markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from commonspace.evaluation.comparison import Compared
from commonspace.evaluation.results import FLOAT, Row
from commonspace.evaluation.specs import BY_LANGUAGE

# Columns as far as they were evaluated; models not named here stand before the soups, by name.
_PEERS = ("all-MiniLM-L6-v2", "rival_st", "rival_clip")
_FIRST = ("chance", "bm25", "e5", "late_fusion", "late_fusion_sum", "late_fusion_mlp", *_PEERS, "align", "pretrain")
_LAST = ("soup_uniform", "soup")
STAR = "*"


def ordered(models: Iterable[str]) -> list[str]:
    """Models as the columns of every table: baselines, peers, stages in their order, soups last."""
    names = set(models)
    middle = sorted(names - set(_FIRST) - set(_LAST))
    return [name for name in (*_FIRST, *middle, *_LAST) if name in names]


@dataclass(frozen=True)
class Rows:
    """Rows of one tier, with the selections tables and plots are made of."""

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Rows:
        """Where a model has several seeds, the rows over all of them stand for it, where there are any.

        Rows of quantised vectors are left out: `precision_table` is theirs.
        """
        rows = [row for row in rows if row.precision == FLOAT]
        pooled = {(row.model, row.task) for row in rows if row.seed is None}
        return cls(tuple(row for row in rows if row.seed is None or (row.model, row.task) not in pooled))

    @property
    def models(self) -> list[str]:
        return ordered(row.model for row in self.rows)

    @cached_property
    def _widest(self) -> dict[str, int]:
        widest: dict[str, int] = {}
        for row in self.rows:
            widest[row.model] = max(widest.get(row.model, 0), row.dim or 0)
        return widest

    def full_size(self, row: Row) -> bool:
        """Whether a row is at its model's full size."""
        return row.dim is None or row.dim == self._widest[row.model]

    def headline(self, metric: str, subset: str, every_query: bool = False) -> dict[tuple[str, str], dict[str, Row]]:
        """{(task, direction): {model: row}} at full size over all languages and sources of a task."""
        suite = "heldout" + ("_every_query" if every_query else "")
        found: dict[tuple[str, str], dict[str, Row]] = {}
        for row in self.rows:
            if (row.suite, row.metric, row.subset, row.source) != (suite, metric, subset, "all"):
                continue
            if not self.full_size(row) or (row.task in BY_LANGUAGE and row.language != "all"):
                continue
            cell = found.setdefault((row.task, row.direction), {})
            cell[row.model] = row
        return found

    def by_language(self, task: str, direction: str, metric: str, subset: str) -> dict[str, dict[str, Row]]:
        """{language: {model: row}} of a task whose languages compete among themselves."""
        found: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            key = (row.task, row.direction, row.metric, row.subset, row.source, row.suite)
            if key == (task, direction, metric, subset, "all", "heldout") and row.language != "all":
                found.setdefault(row.language, {})[row.model] = row
        return found

    def sizes(self, task: str, direction: str, metric: str, model: str) -> dict[int, Row]:
        """{size: row} of one model on one task, all queries."""
        return {
            row.dim: row
            for row in self.rows
            if (row.model, row.task, row.direction, row.metric) == (model, task, direction, metric)
            and (row.suite, row.subset, row.source) == ("heldout", "all", "all")
            and row.dim is not None
            and (row.language == "all" or row.task not in BY_LANGUAGE)
        }


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table; the first column is left-aligned, figures to the right."""
    rule = [":--", *["--:"] * (len(header) - 1)]
    rows = [header, rule, *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


def figure(row: Row | None) -> str:
    """0.412 [.38, .44], or nothing."""
    if row is None:
        return ""
    if row.ci95 is None:
        return f"{row.value:.3f}"
    low, high = (f"{end:.2f}".removeprefix("0") for end in row.ci95)
    return f"{row.value:.3f} [{low}, {high}]"


def task_table(rows: Rows, metric: str, subset: str, every_query: bool = False) -> str:
    """Tasks by models, with the number of queries and the pool."""
    cells = rows.headline(metric, subset, every_query)
    models = [model for model in rows.models if any(model in cell for cell in cells.values())]
    lines = []
    for (task, direction), cell in sorted(cells.items()):
        best = max((row.value for row in cell.values()), default=0.0)
        some = next(iter(cell.values()))
        texts = [_bold(figure(cell.get(model)), model in cell and cell[model].value == best) for model in models]
        lines.append([f"{task} {direction}", str(some.queries), f"{some.pool:.0f}", *texts])
    return markdown(["task", "queries", "pool", *models], lines) if lines else "No rows.\n"


def _bold(text: str, is_best: bool) -> str:
    return f"**{text}**" if is_best and text else text


def comparison_table(found: Sequence[Compared]) -> str:
    """Paired differences with their intervals; what the set could have shown beside them."""
    lines = [
        [
            f"{one.model} - {one.baseline}",
            f"{one.task} ({one.direction})",
            one.metric,
            one.subset.replace("_", " "),
            f"{one.first:.3f}",
            f"{one.second:.3f}",
            f"{one.difference.value:+.3f} [{one.difference.low:+.3f}, {one.difference.high:+.3f}]",
            f"{one.difference.p:.3f}",
            "" if one.p_holm is None else f"{one.p_holm:.3f}",
            f"{one.difference.detectable:.3f}",
            str(one.difference.queries),
        ]
        for one in found
    ]
    header = ["models", "task", "metric", "queries kept", "first", "second", "difference", "p", "p (Holm)"]
    return markdown([*header, "detectable", "queries"], lines) if lines else "No two models to compare.\n"


def language_table(rows: Rows, task: str, direction: str, metric: str = "MRR@10") -> str:
    """Languages by models, most queries first, within each language's own pool."""
    found = rows.by_language(task, direction, metric, "all")
    models = [model for model in rows.models if any(model in cell for cell in found.values())]
    lines = []
    for language, cell in sorted(found.items(), key=lambda item: (-next(iter(item[1].values())).queries, item[0])):
        some = next(iter(cell.values()))
        lines.append([language, str(some.queries), f"{some.pool:.0f}", *(figure(cell.get(model)) for model in models)])
    return markdown(["language", "queries", "pool", *models], lines) if lines else "No languages.\n"


def precision_table(rows: Iterable[Row], metric: str = "NDCG@10") -> str:
    """What each quantised form keeps of float32's value at full size, model by model and task by task; "" without one.

    Headline rows of all queries; of each model the mean over its tasks last. A pool no larger than the candidates that
    signs choose (@) is rescored whole, and keeps everything.
    """
    found: dict[tuple[str, str], dict[str, Row]] = {}
    chosen = [
        row for row in rows if (row.suite, row.subset, row.source, row.metric) == ("heldout", "all", "all", metric)
    ]
    widest = {row.model: max(other.dim or 0 for other in chosen if other.model == row.model) for row in chosen}
    for row in chosen:
        if row.dim == widest[row.model] and (row.language == "all" or row.task not in BY_LANGUAGE):
            found.setdefault((row.model, f"{row.task} {row.direction}"), {})[row.precision] = row
    forms = sorted({form for cell in found.values() for form in cell} - {FLOAT})
    lines, kept = [], {}
    for (model, task), cell in sorted(found.items()):
        if FLOAT in cell and len(cell) > 1:
            full = cell[FLOAT]
            shares = {form: cell[form].value / full.value for form in forms if form in cell and full.value}
            kept.setdefault(model, []).append(shares)
            lines.append([model, task, str(full.queries), f"{full.pool:.0f}", figure(full), *_percent(shares, forms)])
    for model, shares in kept.items():
        given = {form: [one[form] for one in shares if form in one] for form in forms}
        means = {form: sum(some) / len(some) for form, some in given.items() if some}
        lines.append([model, "mean", "", "", "", *_percent(means, forms)])
    return markdown(["model", "task", "queries", "pool", FLOAT, *forms], lines) if lines else ""


def _percent(shares: Mapping[str, float], forms: Sequence[str]) -> list[str]:
    return [f"{shares[form]:.1%}" if form in shares else "" for form in forms]


FLOOR = 0.1  # shares of a task with less at full size are noise, of few queries that are answered at all


def retention(rows: Rows, model: str, metric: str = "NDCG@10") -> dict[tuple[str, float], dict[int, float]]:
    """What each Matryoshka size keeps of the full size's value, {(task, value): {size: share}}."""
    found = {}
    for task, direction in sorted({(row.task, row.direction) for row in rows.rows if row.model == model}):
        curve = rows.sizes(task, direction, metric, model)
        full = curve[max(curve)].value if curve else 0.0
        if len(curve) > 1 and full > 0:
            found[f"{task} {direction}", full] = {size: row.value / full for size, row in curve.items()}
    return found


def retention_table(rows: Rows, model: str, metric: str = "NDCG@10") -> str:
    """The shares of `retention`, task by task; the mean is of the tasks that have FLOOR or more at full size."""
    found = retention(rows, model, metric)
    if not found:
        return "One size only.\n"
    columns = sorted({size for shares in found.values() for size in shares}, reverse=True)
    lines = []
    for (name, full), shares in found.items():
        each = [f"{shares[size]:.1%}" if size in shares else "" for size in columns[1:]]
        lines.append([name if full >= FLOOR else f"{name} (at the floor, not in the mean)", f"{full:.3f}", *each])
    counted = [shares for (_, full), shares in found.items() if full >= FLOOR]
    each_size = ([shares[size] for shares in counted if size in shares] for size in columns[1:])
    lines.append(["mean", "", *(f"{np.mean(some):.1%}" if some else "" for some in each_size)])
    return markdown(["task", *(str(size) for size in columns)], lines)
