"""The rows of a table as its config has them: data sets, directions, metrics, and what the paper prints."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from commonspace.errors import ConfigError
from commonspace.evaluation.paper.layouts import LAYOUTS
from commonspace.evaluation.paper.pools import Captioned, Pool, check_metric

_DIRECTIONLESS = ("imagenet", "labelled", "encyclopedic_vqa", "beir_pages", "spoken_passages")


@dataclass(frozen=True)
class DataSet:
    """One data set of a table.

    folder   below `root`
    hub      {"repo": ..., "revision": ...} of a data set of the hub's, with "layout" and its "options" where it has
             another layout there; None where there is none
    options  of the layout
    """

    name: str
    layout: str
    folder: str
    hub: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def on_hub(self) -> DataSet:
        """The set as its copy on the hub is read."""
        assert self.hub is not None
        if "layout" not in self.hub:
            return self
        return replace(self, layout=self.hub["layout"], options=self.hub.get("options", {}))


@dataclass(frozen=True)
class Row:
    """One row: a figure of a data set (`set`), or the unweighted mean of other rows (`mean`).

    published  what the paper prints, by model
    options    of the layout, over those of the data set
    """

    row: str
    set: str | None = None
    direction: str | None = None
    metric: str | None = None
    mean: Sequence[str] = ()
    published: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table of the paper: its name, data sets by name, and rows in order."""

    name: str
    sets: Mapping[str, DataSet]
    rows: Sequence[Row]

    @property
    def models(self) -> list[str]:
        """Models that the paper has a column of, in the order in which they are met."""
        return list(dict.fromkeys(name for row in self.rows for name in row.published))


def read_table(name: str, sets: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> Table:
    """The table of a config; ConfigError that names the row or data set and what is wrong with it."""
    known = {one.name: one for one in (_made(DataSet, given, f"sets[{i}]") for i, given in enumerate(sets))}
    made = [_made(Row, given, f"rows[{i}]") for i, given in enumerate(rows)]
    if not made:
        raise ConfigError("rows: the table has none; take a prepared one, experiment=paper/table1")
    for one in known.values():
        _check_set(one)
    names: list[str] = []
    for row in made:
        _check_row(row, known, names)
        names.append(row.row)
    return Table(name, known, made)


def _made(kind: type, given: Mapping[str, Any], where: str) -> Any:
    names = [item.name for item in fields(kind)]
    if unknown := sorted(set(given) - set(names)):
        raise ConfigError(f"{where}: {', '.join(unknown)} is unknown; known are {', '.join(names)}")
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigError(f"{where}: {str(error).split('() ')[-1]}") from error


def _check_set(one: DataSet) -> None:
    hub = one.hub or {}
    if unknown := sorted(set(hub) - {"repo", "revision", "layout", "options"}):
        raise ConfigError(f"sets: {one.name}: hub: {', '.join(unknown)} is none of repo, revision, layout, options")
    if one.hub is not None and not (hub.get("repo") and re.fullmatch("[0-9a-f]{40}", str(hub.get("revision")))):
        raise ConfigError(f"sets: {one.name}: hub: needs a repo, and as revision a commit of 40 hexadecimal digits")
    if "options" in hub and "layout" not in hub:
        raise ConfigError(f"sets: {one.name}: hub: options go with a layout of its own; leave them out or name it")
    for layout in (one.layout, hub.get("layout", one.layout)):
        if layout not in LAYOUTS:
            raise ConfigError(f"sets: {one.name}: layout {layout!r} is none of {', '.join(LAYOUTS)}")


def _check_row(row: Row, known: Mapping[str, DataSet], before: Sequence[str]) -> None:
    if row.row in before:
        raise ConfigError(f"rows: {row.row!r} is there twice")
    if bool(row.mean) == bool(row.set):
        raise ConfigError(f"rows: {row.row}: needs a set, or the rows it is the mean of; one of the two")
    if row.mean:
        if unknown := [name for name in row.mean if name not in before]:
            raise ConfigError(f"rows: {row.row}: mean of {', '.join(unknown)}, which no row before it is")
        return
    if row.set not in known:
        raise ConfigError(f"rows: {row.row}: set {row.set!r} is none of {', '.join(known)}")
    check_metric(str(row.metric))
    data = known[str(row.set)]
    for one in (data, data.on_hub()) if data.hub else (data,):
        if (row.direction is None) != (one.layout in _DIRECTIONLESS):
            raise ConfigError(
                f"rows: {row.row}: a direction goes with captions, and {one.layout} has one question alone"
            )
        _check_options(row, one.layout, {**one.options, **row.options})


def _check_options(row: Row, layout: str, options: Mapping[str, Any]) -> None:
    takes = dict(list(inspect.signature(LAYOUTS[layout]).parameters.items())[1:])  # the first is the folder
    if unknown := sorted(set(options) - set(takes)):
        raise ConfigError(f"rows: {row.row}: {', '.join(unknown)} is no option of the layout {layout}")
    if missing := [name for name, one in takes.items() if one.default is one.empty and name not in options]:
        raise ConfigError(f"rows: {row.row}: the layout {layout} needs {', '.join(missing)} among its options")


def pool_of(row: Row, data: DataSet, place: Callable[[DataSet], Path], absent: str) -> Pool:
    """What a row asks: its data set read from its folder, in its direction."""
    read = LAYOUTS[data.layout]
    options = {**data.options, **row.options}
    if "absent" in inspect.signature(read).parameters:
        options.setdefault("absent", absent)
    found = read(place(data), **options)
    return found.asked(str(row.direction)) if isinstance(found, Captioned) else found
