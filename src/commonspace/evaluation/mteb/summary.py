"""What a suite's results come to: a score a task, means by benchmark, and best-of-N prefixes apart from the default."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonspace.errors import ConfigError
from commonspace.evaluation.mteb.prompts import is_of_text
from commonspace.evaluation.results import write_text

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

    from commonspace.evaluation.mteb.suites import Chosen

NAME = "summary"  # .json and .md beside mteb's own results


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

    `published` are columns of other models (see `check_published`), in per cent, beside ours on the page.
    """
    path = folder / f"{suite}.{NAME}.json"
    write_text(path, json.dumps({**about, **summary}, indent=1, ensure_ascii=False) + "\n")
    write_text(path.with_suffix(".md"), _page(summary, about, published))
    return path


def write_side_by_side(folder: Path, suite: str) -> Path | None:
    """SUITE.md of the models whose summaries lie in folders of their own below `folder`; None of fewer than two.

    A column a model, in the order of their names; the best of a row is bold. What a model cannot read is left blank.
    """
    read = [json.loads(path.read_text()) for path in sorted(folder.glob(f"*/{suite}.{NAME}.json"))]
    if len(read) < 2:
        return None
    lines = [
        f"# {suite}, by mteb's code",
        "",
        "Generated by `commonspace evaluate mteb` from summaries in folders beside this file.",
        "",
    ]
    lines += [f"- **{one['model']}**: `{one['command']}`, mteb {one['mteb']}, code of {one['commit']}" for one in read]
    for name in dict.fromkeys(name for one in read for name in one["benchmarks"]):
        found = [one["benchmarks"].get(name, {"scores": []})["scores"] for one in read]
        metrics = {row["task"]: row["metric"] for rows in found for row in rows}
        scores = [{row["task"]: row["score"] for row in rows} for rows in found]
        shared = [task for task in metrics if all(task in column for column in scores)]
        lines += ["", f"## {name}", ""]
        rows = [[task, metrics[task], *_bold([column.get(task) for column in scores])] for task in sorted(metrics)]
        if shared:
            means = [sum(column[task] for task in shared) / len(shared) for column in scores]
            rows.append([f"mean of the {len(shared)} that all have", "", *_bold(means)])
        lines += _table(["task", "metric", *(one["model"] for one in read)], rows)
    path = folder / f"{suite}.md"
    write_text(path, "\n".join(lines) + "\n")
    return path


def _bold(values: Sequence[float | None]) -> list[str]:
    """In per cent, the highest bold, nothing for None."""
    best = max(value for value in values if value is not None)
    shown = ["" if value is None else f"{100 * value:.2f}" for value in values]
    return [f"**{text}**" if value == best else text for text, value in zip(shown, values, strict=True)]


def _page(summary: Mapping[str, Any], about: Mapping[str, Any], published: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"# {about['model']} on {about['suite']}", "", f"`{about['command']}`, mteb {about['mteb']}", ""]
    for name, found in summary["benchmarks"].items():
        others = {one["model"]: one["values"] for one in published if one["benchmark"] == name}
        lines += [f"## {name}: {found['tasks']} of {found['tasks_of_benchmark']} tasks", ""]
        lines += [*_means_table(found, summary["prefixes"][0], others), "", *_scores_table(found, others), ""]
    if summary["left_out"]:
        lines += ["## Left out", "", *(f"- {name}: {why}" for name, why in summary["left_out"].items()), ""]
    return "\n".join(lines)


def _means_table(found: Mapping[str, Any], prefixes: str, others: Mapping[str, Mapping[str, float]]) -> list[str]:
    best = found.get("means_of_best_prefixes")
    head = ["mean", f"prefixes: {prefixes}", *(["best prefix a task"] if best else []), *others]
    rows = [
        [name, f"{100 * value:.2f}", *([f"{100 * best[name]:.2f}"] if best else []), *_printed(name, others)]
        for name, value in found["means"].items()
    ]
    return _table(head, rows)


def _scores_table(found: Mapping[str, Any], others: Mapping[str, Mapping[str, float]]) -> list[str]:
    has_best = "means_of_best_prefixes" in found
    head = ["task", "metric", "score", *(["best", "with"] if has_best else []), *others]
    rows = [
        [
            row["task"], row["metric"], f"{100 * row['score']:.2f}",
            *([f"{100 * row['best']:.2f}", row["best_prefix"] or ""] if has_best else []),
            *_printed(row["task"], others),
        ]
        for row in found["scores"]
    ]  # fmt: skip
    return _table(head, rows)


def _printed(name: str, others: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [f"{values[name]:.2f}" if name in values else "–" for values in others.values()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
