"""What the tables ask of the rows on disk: lines, columns, and the commands that make a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from commonspace.errors import ConfigError
from commonspace.evaluation.metrics import METRICS


@dataclass(frozen=True)
class Line:
    """One question of a table, as result rows name it."""

    task: str
    direction: str
    metric: str

    @property
    def label(self) -> str:
        """Task and direction."""
        return f"{self.task} {self.direction}"


@dataclass(frozen=True)
class Column:
    """A model: the commands that make its rows, in order, and the only tasks it answers (None: all)."""

    name: str
    made: tuple[str, ...]
    answers: frozenset[str] | None

    def asked(self, line: Line) -> bool:
        """Whether a line is a question to this model at all."""
        return self.answers is None or line.task in self.answers


@dataclass(frozen=True)
class Table:
    """One table: its lines and columns, models compared in pairs, where its rows lie below those of the tier ("" with
    them), folders there whose rows join these, and the name of its plot, if it has one.
    """

    name: str
    about: str
    lines: tuple[Line, ...]
    columns: tuple[Column, ...]
    pairs: tuple[tuple[str, str], ...]
    folder: str = ""
    beside: tuple[str, ...] = ()
    plot: str | None = None


def read_tables(models: Mapping[str, Mapping[str, Any]], tables: Sequence[Mapping[str, Any]], tier: str) -> list[Table]:
    """The tables of a config that a tier has, with the models it has; ConfigError names what makes no sense."""
    columns = {name: _column(name, given) for name, given in models.items()}
    absent = {name for name, given in models.items() if not _has(given, tier)}
    return [_table(given, columns, absent) for given in tables if _has(given, tier)]


def _has(given: Mapping[str, Any], tier: str) -> bool:
    return "tiers" not in given or tier in given["tiers"]


def _column(name: str, given: Mapping[str, Any]) -> Column:
    if set(given) - {"made", "answers", "tiers"} or not given.get("made"):
        raise ConfigError(f"models.{name}: takes `made`, a list of commands, `answers`, one of tasks, and `tiers`")
    answers = given.get("answers")
    return Column(name, tuple(given["made"]), None if answers is None else frozenset(answers))


def _table(given: Mapping[str, Any], columns: Mapping[str, Column], absent: Set[str]) -> Table:
    if not {"name", "about", "rows", "models"} <= set(given) <= {*_KEYS}:
        raise ConfigError(f"tables: {given.get('name', given)}: needs name, about, rows and models; knows {_KEYS}")
    asked = [(first, second) for first, second in given.get("pairs", ())]
    for model in (*given["models"], *(name for pair in asked for name in pair)):
        if model not in columns:
            raise ConfigError(f"tables: {given['name']}: {model} is none of `models`; say there how its rows are made")
    lines = tuple(_line(row, given["name"]) for row in given["rows"])
    chosen = tuple(columns[model] for model in given["models"] if model not in absent)
    pairs = tuple(pair for pair in asked if not absent & set(pair))
    about, folder = str(given["about"]), str(given.get("folder", ""))
    beside = tuple(given.get("beside", ()))
    return Table(str(given["name"]), about, lines, chosen, pairs, folder, beside, given.get("plot"))


_KEYS = ("name", "about", "rows", "models", "pairs", "folder", "beside", "plot", "tiers")


def _line(row: str, table: str) -> Line:
    words = row.split()
    if len(words) != 3 or words[2] not in METRICS:
        raise ConfigError(f"tables: {table}: {row!r} is no row; write TASK DIRECTION METRIC, of {', '.join(METRICS)}")
    return Line(*words)
