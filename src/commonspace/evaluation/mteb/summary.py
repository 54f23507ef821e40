"""What a suite's results come to: a score a task, means by benchmark, and best-of-N prefixes apart from the default."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonspace.errors import ConfigError
from commonspace.evaluation.mteb.page import comparison_page, model_page
from commonspace.evaluation.mteb.prompts import is_of_text
from commonspace.evaluation.mteb.sizes import size_of
from commonspace.evaluation.mteb.suites import HELDOUT
from commonspace.evaluation.results import write_text

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

    from commonspace.evaluation.mteb.suites import Chosen

NAME = "summary"  # .json and .md beside mteb's own results
TABLES = "results.md"  # of a tier, by `commonspace evaluate`


def scored(tasks: Sequence[AbsTask], cache: Any, meta: Any) -> dict[str, float]:
    """{task: main score 0..1} of what the cache has whole, means over the subsets and splits that the task asks for."""
    found = {}
    for task in tasks:
        result = cache.load_task_result(task.metadata.name, meta)
        if result is not None:
            score = float(result.validate_and_filter_scores(task).get_score())
            if not math.isnan(score):
                found[task.metadata.name] = score
    return found


def best_of(by_prefix: Mapping[str, Mapping[str, float]]) -> dict[str, tuple[float, str]]:
    """{task: (score, prefix)} of the best prefix of each task; chosen on the very scores that it is judged by."""
    names = {name for scores in by_prefix.values() for name in scores}
    ranked = {
        name: [(scores[name], prefix) for prefix, scores in by_prefix.items() if name in scores] for name in names
    }
    return {name: max(pairs, key=lambda pair: pair[0]) for name, pairs in sorted(ranked.items())}


def summarise(chosen: Chosen, by_prefix: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The figures of every benchmark as JSON values.

    by_prefix  {policy or prefix: {task: score}}; the first is the one of headlines, and where there are several the
               best of each task is a column of its own. Tasks that take no prefix have their one score in both.
    """
    headline = next(iter(by_prefix.values()))
    best = best_of(by_prefix) if len(by_prefix) > 1 else {}
    made = {}
    for name, tasks in chosen.benchmarks.items():
        rows = [_row(task, headline, best) for task in tasks if task.metadata.name in headline]
        made[name] = {
            "tasks": len(rows),
            "tasks_of_benchmark": chosen.sizes[name],
            "scores": rows,
            "means": _means(rows, "score"),
            **({"means_of_best_prefixes": _means(rows, "best")} if best else {}),
        }
    return {"prefixes": list(by_prefix), "benchmarks": made, "left_out": dict(sorted(chosen.left_out.items()))}


def _row(task: AbsTask, headline: Mapping[str, float], best: Mapping[str, tuple[float, str]]) -> dict[str, Any]:
    metadata = task.metadata
    row = {
        "task": metadata.name,
        "type": metadata.type,
        "metric": metadata.main_score,
        "score": round(headline[metadata.name], 6),
        **size_of(task),
    }
    if best:
        score, prefix = best[metadata.name]
        row |= {"best": round(score, 6), "best_prefix": prefix if is_of_text(metadata) else None}
    return row


def _means(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, float]:
    """Over tasks, over types of task, and of each type, as mteb's leaderboard has them."""
    if not rows:
        return {}
    by_type: dict[str, list[float]] = {}
    for row in rows:
        by_type.setdefault(row["type"], []).append(row[column])
    types = {name: sum(values) / len(values) for name, values in sorted(by_type.items())}
    means = {
        "Mean(Task)": sum(row[column] for row in rows) / len(rows),
        "Mean(TaskType)": sum(types.values()) / len(types),
    }
    return {name: round(value, 6) for name, value in (means | types).items()}


def check_published(published: Sequence[Mapping[str, Any]], chosen: Chosen) -> None:
    """ConfigError for a column that is not {benchmark, model, values}, or of a benchmark that the suite has not."""
    for number, column in enumerate(published):
        if set(column) != {"benchmark", "model", "values"}:
            raise ConfigError(f"published[{number}]: has {', '.join(column)}; needs benchmark, model, values")
        if column["benchmark"] not in chosen.benchmarks:
            raise ConfigError(f"published[{number}]: the suite has no {column['benchmark']}")


def write_summary(
    folder: Path,
    suite: str,
    summary: Mapping[str, Any],
    about: Mapping[str, Any],
    published: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """SUITE.summary.json and .md, replaced whole; jobs that share a suite out each write what is there so far.

    `published` are columns of other models (see `check_published`), in per cent, beside ours on the page. A job that
    measured nothing leaves command and commit of the figures as they were: they are not its own.
    """
    path = folder / f"{suite}.{NAME}.json"
    about = _told(path, summary, about) or about
    write_text(path, json.dumps({**about, **summary}, indent=1, ensure_ascii=False) + "\n")
    write_text(path.with_suffix(".md"), model_page(summary, about, published))
    return path


def _told(path: Path, summary: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the summary that is there says of its figures, if it has these ones of this very model."""
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    if any(kept[key] != about[key] for key in ("model", "revision")) or _figures(kept) != _figures(summary):
        return None
    return {key: value for key, value in kept.items() if key not in summary}


def _figures(summary: Mapping[str, Any]) -> list[Any]:
    """What was measured, and over how many queries and items."""
    found = [
        (name, *(row.get(key) for key in ("task", "score", "queries", "pool", "pools")))
        for name, one in summary["benchmarks"].items()
        for row in one["scores"]
    ]
    return [summary["prefixes"], summary["left_out"], found]


def write_side_by_side(folder: Path, suite: str) -> Path | None:
    """SUITE.md of the models whose summaries lie in folders of their own below `folder`; None of fewer than two.

    A column a model, in the order of their names. Where the tables of `commonspace evaluate` lie beside `folder`, the
    page of our own suite says that they have the intervals.
    """
    read = [json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{suite}.{NAME}.json"))]
    if len(read) < 2:
        return None
    tables = f"../{TABLES}" if suite == HELDOUT and (folder.parent / TABLES).exists() else ""
    path = folder / f"{suite}.md"
    write_text(path, comparison_page(suite, read, tables))
    return path
