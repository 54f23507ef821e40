"""`commonspace evaluate tables`: the paper's tables of a tier, of the rows that lie there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from commonspace.config_values import resolved
from commonspace.errors import DataError
from commonspace.evaluation.comparison import (
    Compared,
    compare,
    maker,
    read_comparisons,
    still_true,
    write_comparisons,
)
from commonspace.evaluation.inhouse.cells import Cells
from commonspace.evaluation.inhouse.layout import Table, read_tables
from commonspace.evaluation.inhouse.page import page
from commonspace.evaluation.inhouse.plot import draw
from commonspace.evaluation.intervals import holm
from commonspace.evaluation.plots import png
from commonspace.evaluation.results import Row, ranks_path, read_all, read_ranks
from commonspace.evaluation.results_index import PAPER_TABLES
from commonspace.evaluation.run import command_line
from commonspace.files import replaced, write_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

FOLDER = "paper_tables"  # keeps the differences: ranks, of which they are made, are not in git
console = Console()


def main(config: DictConfig) -> None:
    """Write the page, its plot, and what is missing to the console too."""
    plain = resolved(config)
    tables = read_tables(plain["models"], plain["tables"], plain["data"]["tier"])
    folder, subset = Path(plain["output"]), plain["subset"]
    shown = [Cells(table, rows_of(folder, table), subset) for table in tables]
    if not any(cells.rows for cells in shown):
        raise DataError(f"{folder}: no result rows; run `commonspace evaluate` first")
    found = {cells.table.name: differences(folder, cells) for cells in shown}
    for cells in shown:
        if cells.table.plot:
            _draw(folder / f"{cells.table.plot}.png", cells)
    write_text(
        folder / PAPER_TABLES,
        page(plain["data"]["tier"], command_line(), [(one, found[one.table.name]) for one in shown]),
    )
    gaps = sum(len(lines) for cells in shown for lines in cells.lacking().values())
    console.print(
        f"{folder / PAPER_TABLES}: {len(shown)} tables; {gaps} cells are missing, named there", soft_wrap=True
    )


def _places(folder: Path, table: Table) -> list[Path]:
    """Where a table's rows lie."""
    return [folder / table.folder, *(folder / name for name in table.beside)]


def rows_of(folder: Path, table: Table) -> list[Row]:
    """Every row that may stand in a table."""
    return [row for place in _places(folder, table) for row in read_all(place)]


def differences(folder: Path, cells: Cells) -> list[Compared]:
    """Paired differences of a table's pairs, line by line, Holm over the lines of a pair; of a table whose rows lie
    apart, those that lie with them. Made anew where both models' ranks are here, else as they were kept of the
    same rows, else the report's own of both directions.
    """
    table = cells.table
    if table.folder:
        names = {column.name for column in table.columns}
        return [one for one in read_comparisons(folder / table.folder) if one.model in names]
    kept: dict[tuple[str, ...], Compared] = {}
    for place in _places(folder, table):
        there = {_key(one): one for one in still_true(place, read_comparisons(place / FOLDER))}
        there |= {_key(one): one for pair in table.pairs for one in _fresh(place, cells, *pair)}
        if there:
            write_comparisons(place / FOLDER, list(there.values()))
        kept |= there
    reported = still_true(folder, read_comparisons(folder))
    return [one for pair in table.pairs for one in _adjusted(table, pair, kept) or _reported(table, pair, reported)]


def _fresh(folder: Path, cells: Cells, model: str, baseline: str) -> list[Compared]:
    if not all(ranks_path(folder, name).exists() for name in (model, baseline)):
        return []
    first, second = (read_ranks(folder, name) for name in (model, baseline))
    made, found = (maker(folder, model), maker(folder, baseline)), []
    for line in cells.lines():
        rows = cells.line(line)
        if {model, baseline} <= set(rows):
            subset = rows[model].subset
            gap = compare(first, second, line.task, line.metric, subset, line.direction)
            if gap is not None:
                found.append(Compared(line.task, line.direction, line.metric, subset, model, baseline, *gap, made=made))
    return found


def _adjusted(table: Table, pair: tuple[str, str], kept: Mapping[tuple[str, ...], Compared]) -> list[Compared]:
    wanted = {(line.task, line.direction, line.metric, *pair) for line in table.lines}
    found = [one for key, one in kept.items() if key in wanted]
    return [replace(one, p_holm=p) for one, p in zip(found, holm([one.difference.p for one in found]), strict=True)]


def _reported(table: Table, pair: tuple[str, str], found: Sequence[Compared]) -> list[Compared]:
    tasks = {line.task for line in table.lines}
    return [one for one in found if (one.model, one.baseline) == pair and one.task in tasks]


def _key(one: Compared) -> tuple[str, ...]:
    return (one.task, one.direction, one.metric, one.model, one.baseline)


def _draw(path: Path, cells: Cells) -> None:
    figure = draw(cells)
    if figure is None:
        path.unlink(missing_ok=True)
        return
    with replaced(path) as partial:
        partial.write_bytes(png(figure))
