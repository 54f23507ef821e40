"""A table's results on disk, one file a model, and the page that has the published columns beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from commonspace.errors import DataError
from commonspace.evaluation.paper.rows import Row, Table
from commonspace.evaluation.results import write_text

Measured = Mapping[str, Mapping[str, Any]]  # {row: {value, ci95, queries, pool, absent}}


def with_means(table: Table, figures: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Figures of every row that has one; a mean where all of its rows do, without interval or pool of its own."""
    found: dict[str, dict[str, Any]] = {}
    for row in table.rows:
        if row.row in figures:
            found[row.row] = dict(figures[row.row])
        elif row.mean and all(name in found for name in row.mean):
            found[row.row] = {"value": sum(found[name]["value"] for name in row.mean) / len(row.mean)}
    return found


def save(folder: Path, model: str, measured: Measured, about: Mapping[str, Any]) -> Path:
    """Replace a model's figures of a table."""
    path = folder / f"{model}.json"
    write_text(path, json.dumps({**about, "rows": measured}, indent=1, ensure_ascii=False) + "\n")
    return path


def saved(folder: Path) -> dict[str, dict[str, Any]]:
    """{model: what `save` wrote} of every model of a table; DataError where a file is damaged."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text())
        except ValueError as error:
            raise DataError(f"{path}: is damaged ({error}); delete it and evaluate the model again") from error
    return found


def page(table: Table, folder: Path) -> str:
    """Rows down; the models measured here, then those that the paper prints. Everything in per cent."""
    here = saved(folder)
    head = [
        "row",
        "metric",
        *(f"**{name}**" for name in here),
        "queries",
        "pool",
        *(f"{n} (paper)" for n in table.models),
    ]
    lines = [f"# {table.name}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in table.rows:
        figures = [one["rows"].get(row.row) for one in here.values()]
        cells = [row.row, row.metric or "mean", *map(_shown, figures), *_size(figures)]
        lines.append("| " + " | ".join([*cells, *(_printed(row, name) for name in table.models)]) + " |")
    lines += ["", "Brackets are 95% intervals; the paper prints none.", ""]
    lines += [f"- {name}: `{one['command']}`" for name, one in here.items()]
    copies = [
        f"- {row.row}: {name} read {figure['copy']}"
        for row in table.rows
        for name, one in here.items()
        if "copy" in (figure := one["rows"].get(row.row, {}))
    ]
    if copies:
        lines += [
            "",
            "Copies on the hub, whose pools may be others than the paper's (docs/paper_tables.md):",
            "",
            *copies,
        ]
    return "\n".join(lines) + "\n"


def _shown(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    value = f"{100 * figure['value']:.1f}"
    return f"{value} [{100 * figure['ci95'][0]:.1f}, {100 * figure['ci95'][1]:.1f}]" if "ci95" in figure else value


def _size(figures: Sequence[Mapping[str, Any] | None]) -> Sequence[str]:
    """Queries and pool; several where models were asked of different files."""
    found: dict[tuple[str, str], None] = {}
    for figure in figures:
        if figure and "queries" in figure:
            absent = f" ({figure['absent']} absent)" if figure["absent"] else ""
            found[str(figure["queries"]), f"{figure['pool']:.0f}{absent}"] = None
    return [" / ".join(sizes) for sizes in zip(*found, strict=True)] or ["", ""]


def _printed(row: Row, model: str) -> str:
    return f"{row.published[model]:.1f}" if model in row.published else "–"
