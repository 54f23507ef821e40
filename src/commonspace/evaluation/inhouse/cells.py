"""The cells of one table: which row on disk stands in each, which are missing, and how a missing one is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from commonspace.evaluation.inhouse.layout import Column, Line, Table
from commonspace.evaluation.results import FLOAT, Row
from commonspace.evaluation.specs import BY_LANGUAGE
from commonspace.evaluation.tables import Rows


@dataclass(frozen=True)
class Cells:
    """A table with the rows there are for it; `subset` as in `configs/evaluate_tables.yaml`."""

    table: Table
    rows: Sequence[Row]
    subset: str

    @cached_property
    def _chosen(self) -> dict[tuple[str, str], Row]:
        """{(label, model): row}; the subset's row before one of all queries, for such tasks have no other."""
        pooled, found = Rows.of(self.rows), {}
        for subset in dict.fromkeys(("all", self.subset)):
            for metric in {line.metric for line in self.table.lines}:
                for label, cell in pooled.headline(metric, subset).items():
                    found |= {(f"{' '.join(label)} {metric}", model): row for model, row in cell.items()}
        clean = {(row.task, row.direction) for row in found.values() if row.subset == self.subset}
        return {
            key: row
            for key, row in found.items()
            if row.subset == self.subset or (row.task, row.direction) not in clean
        }

    def row(self, line: Line, column: Column) -> Row | None:
        """What stands in a cell."""
        return self._chosen.get((f"{line.label} {line.metric}", column.name))

    def line(self, line: Line) -> dict[str, Row]:
        """{model: row} of one line."""
        found = ((column.name, self.row(line, column)) for column in self.table.columns)
        return {name: row for name, row in found if row is not None}

    def lines(self) -> list[Line]:
        """Lines that any model has a row of."""
        return [line for line in self.table.lines if self.line(line)]

    def nowhere(self) -> list[Line]:
        """Lines that no model has a row of: the tier has no such task, or nothing was evaluated."""
        return [line for line in self.table.lines if not self.line(line)]

    def lacking(self) -> dict[str, list[Line]]:
        """{model: lines of the table that it could answer and has no row of}; nothing of lines that are nowhere."""
        found = {}
        for column in self.table.columns:
            missing = [line for line in self.lines() if column.asked(line) and self.row(line, column) is None]
            if missing:
                found[column.name] = missing
        return found

    def commands(self, model: str) -> tuple[str, ...]:
        """What makes a model's missing rows: all of its commands, or where it has rows of others the last alone."""
        column = next(column for column in self.table.columns if column.name == model)
        return column.made[-1:] if any(row.model == model for row in self.rows) else column.made

    def seeds(self) -> dict[str, dict[Line, dict[int, Row]]]:
        """{model: {line: {seed: row}}} of the models that were trained several times."""
        found: dict[str, dict[Line, dict[int, Row]]] = {}
        several = {row.model for row in self.rows if row.seed is not None} & {
            row.model for row in self.rows if row.seed is None
        }
        for line in self.table.lines:
            for row in self.rows:
                if (row.task, row.direction, row.metric) != (line.task, line.direction, line.metric):
                    continue
                stands = self.line(line).get(row.model)
                if row.seed is None or row.model not in several or stands is None:
                    continue
                if _same(row, stands):
                    found.setdefault(row.model, {}).setdefault(line, {})[row.seed] = row
        return found

    def mean(self, column: Column) -> float | None:
        """Mean over the lines there are; None for a model that lacks one."""
        values = [row.value for line in self.lines() if (row := self.row(line, column)) is not None]
        return sum(values) / len(values) if values and len(values) == len(self.lines()) else None


def _same(row: Row, other: Row) -> bool:
    """Whether one seed's row is over the queries, and at the size, of the row over all seeds."""
    named = ("suite", "subset", "source", "dim", "precision")
    same = all(getattr(row, name) == getattr(other, name) for name in named) and row.precision == FLOAT
    return same and (row.task not in BY_LANGUAGE or row.language == other.language)
