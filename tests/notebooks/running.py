"""Notebooks run from top to bottom in this process: seconds less than a kernel each, and what they show can be seen."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"


@dataclass
class Shown:
    """What a notebook showed: its figures, by the titles of their axes, and the legends beside them; its tables, and
    its last names."""

    figures: list[list[str]] = field(default_factory=list)
    legends: list[list[str]] = field(default_factory=list)
    tables: list[Any] = field(default_factory=list)
    names: dict[str, Any] = field(default_factory=dict)


def run(name: str, patch: pytest.MonkeyPatch, **places: object) -> Shown:
    """Execute a notebook; `places` become its environment variables COMMONSPACE_<NAME>."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = Shown()
    for key, value in places.items():
        patch.setenv(f"COMMONSPACE_{key.upper()}", str(value))

    def show() -> None:
        for number in plt.get_fignums():
            figure = plt.figure(number)
            figure.canvas.draw()  # what cannot be drawn fails here, as it would on the page
            shown.figures.append([axis.get_title() or axis.get_xlabel() for axis in figure.axes])
            shown.legends += [[one.get_text() for one in legend.get_texts()] for legend in figure.legends]
        plt.close("all")

    patch.setattr(plt, "show", show)
    display = importlib.import_module("IPython.display")  # comes with the kernel that notebooks need
    patch.setattr(display, "display", shown.tables.append)
    for cell in nbformat.read(FOLDER / name, as_version=4).cells:
        if cell.cell_type == "code":
            value = _execute(cell.source, name, shown.names)
            shown.tables += [] if value is None else [value]
    assert not plt.get_fignums(), "a figure was left open"
    return shown


def _execute(source: str, name: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line, if that is an expression."""
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    return eval(compile(ast.Expression(last.value), name, "eval"), names) if last else None
