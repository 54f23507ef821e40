"""What a recipe shows: a table of steps that lives while they run, and at the end the headline figures and paths."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from commonspace.child import Progress
from commonspace.errors import DataError

METRIC = "MRR@10"
_MAIN_TIER = "mini"
# Columns of the closing table, as far as they were evaluated; others follow in the order of their names.
MODELS = ("chance", "bm25", "e5", "late_fusion", "pretrain", "soup_uniform", "soup")


class StepTable:
    """Steps with their state, duration and peak memory; redrawn in a terminal, one line an event elsewhere."""

    def __init__(self, names: Sequence[str], console: Console | None = None) -> None:
        self.console = console or Console()
        self._rows: dict[str, list[str]] = {name: ["", "", "", ""] for name in names}
        self._live = Live(console=self.console, get_renderable=self.table, refresh_per_second=2, transient=True)

    def __enter__(self) -> StepTable:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()
        self.console.print(self.table())

    def skipped(self, name: str, seconds: float, peak_bytes: int) -> None:
        """Nothing to do: what it took when it last ran."""
        self._set(name, "unchanged", duration(seconds), gigabytes(peak_bytes))

    def started(self, name: str) -> None:
        """A step begins."""
        self._set(name, "running", "", "")

    def progress(self, name: str, now: Progress) -> None:
        """A running step's time, memory and last line; only a terminal shows it."""
        self._rows[name] = ["running", duration(now.seconds), gigabytes(now.peak_bytes), now.line[:100]]

    def finished(self, name: str, seconds: float, peak_bytes: int) -> None:
        """A step ended well."""
        self._set(name, "done", duration(seconds), gigabytes(peak_bytes))

    def failed(self, name: str) -> None:
        """A step ended with an error; the error itself is raised by the recipe."""
        self._set(name, "failed", self._rows[name][1], self._rows[name][2])

    def _set(self, name: str, state: str, seconds: str, memory: str) -> None:
        self._rows[name] = [state, seconds, memory, ""]
        if not self.console.is_terminal:
            self.console.print(f"recipe: {name} {state} {seconds} {memory}".rstrip())

    def table(self) -> Table:
        """The table as it stands."""
        table = Table("step", "state", "time", "peak memory", "", title="recipe")
        for name, (state, seconds, memory, line) in self._rows.items():
            colour = {"running": "yellow", "done": "green", "failed": "red"}.get(state, "dim")
            table.add_row(name, f"[{colour}]{state or 'waits'}[/]", seconds, memory, line.replace("[", "\\["))
        return table


def duration(seconds: float) -> str:
    """Seconds as "1:02:03" or "2:03"."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def gigabytes(size: int) -> str:
    """Bytes as "1.2 GB" (10^9)."""
    return f"{size / 1e9:.1f} GB"


def headline(folder: Path) -> Table | None:
    """MRR@10 on held-out queries without near-duplicates, task by model, from the rows in `folder`; None without rows.

    A task that has no such subset shows all its queries, marked by a star. Raises DataError naming a broken file.
    """
    rows = [row for path in sorted(folder.glob("*.jsonl")) for row in _read(path)]
    rows = [
        r
        for r in rows
        if (r["suite"], r["metric"], r["source"]) == ("heldout", METRIC, "all")
        and r.get("precision", "float32") == "float32"  # not of quantised vectors
        and _full(r, rows)
    ]
    cells: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["subset"] != "no_near_duplicates"):
        cells.setdefault((row["task"], row["direction"]), {}).setdefault(row["model"], row)
    if not cells:
        return None
    present = {model for cell in cells.values() for model in cell}
    models = [m for m in MODELS if m in present] + sorted(present - set(MODELS))
    table = Table(
        "task", "queries", *models, title=f"{METRIC}, held-out, no near-duplicates (* all queries), full size"
    )
    for (task, direction), cell in sorted(cells.items()):
        counts = sorted({str(row["queries"]) for row in cell.values()})
        table.add_row(f"{task} {direction}", "/".join(counts), *(_figure(cell.get(model)) for model in models))
    return table


def print_closing(tier: str, paths: Mapping[str, Path], console: Console | None = None) -> None:
    """The headline table, then where everything lies."""
    console = console or Console(width=160)
    results = paths["docs"] / "results" / tier
    table = headline(results)
    if table is not None:
        console.print(table)
    places = {
        "report": results / "report.html",
        "tables": results / "results.md",
        "data": _data_page(tier, paths),
        "model": paths["models"] / tier / "soup",
        "runs": paths["runs"] / tier,
        "W&B": paths["runs"] / tier / "*/*/wandb/offline-run-*",
    }
    for name, path in places.items():
        found = any(path.parents[3].glob(str(path.relative_to(path.parents[3])))) if "*" in str(path) else path.exists()
        if found:
            console.print(f"{name:>7}  {path}", soft_wrap=True)


def _data_page(tier: str, paths: Mapping[str, Path]) -> Path:
    """What `data report` writes in a tier's recipe: a document of the project for the main one alone."""
    return paths["docs"] / "data.md" if tier == _MAIN_TIER else paths["runs"] / tier / "docs" / f"data-{tier}.md"


def _figure(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    interval = f" ±{(row['ci95'][1] - row['ci95'][0]) / 2:.3f}" if row["ci95"] else ""
    return f"{row['value']:.3f}{interval}{'' if row['subset'] == 'no_near_duplicates' else '*'}"


def _full(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a row is of its model's full size, and of all languages where there are rows of single ones."""
    same = [r for r in rows if all(r[key] == row[key] for key in ("model", "task", "direction", "subset"))]
    sizes = [r["dim"] for r in same if r["dim"] is not None]
    languages = {r["language"] for r in same}
    return (row["dim"] is None or row["dim"] == max(sizes)) and (row["language"] == "all" or "all" not in languages)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(f"{path}: not JSON lines ({error}); evaluate that model again") from error
