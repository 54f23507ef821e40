"""Figure 3's plot: what one stage adds to another, line by line."""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure

from commonspace.evaluation.inhouse.cells import Cells
from commonspace.evaluation.plots import STYLE, colours


def draw(cells: Cells) -> Figure | None:
    """A line of dots with their intervals for every line of the table; None where two models never meet."""
    lines = [line for line in cells.lines() if len(cells.line(line)) > 1][::-1]
    names = [column.name for column in cells.table.columns if any(column.name in cells.line(line) for line in lines)]
    if not lines:
        return None
    palette = colours(names)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.2 + 0.42 * len(lines)), layout="constrained")
        axis = figure.subplots()
        for place, name in enumerate(names):
            met = [(at, row) for at, line in enumerate(lines) if (row := cells.line(line).get(name)) is not None]
            ends = [row.ci95 or (row.value, row.value) for _, row in met]
            axis.errorbar(
                [row.value for _, row in met],
                [at - 0.5 * (place - (len(names) - 1) / 2) / len(names) for at, _ in met],
                xerr=[
                    [max(0.0, row.value - low) for (_, row), (low, _) in zip(met, ends, strict=True)],
                    [max(0.0, high - row.value) for (_, row), (_, high) in zip(met, ends, strict=True)],
                ],
                fmt="o", ms=4, elinewidth=0.8, color=palette[name], label=name,
            )  # fmt: skip
        axis.set_yticks(range(len(lines)), [f"{line.label}, {line.metric}" for line in lines])
        axis.set_xlim(left=0)
        axis.set_xlabel("the metric that a line names, 95% over concepts")
        figure.suptitle(f"{cells.table.name}: {cells.table.about}", x=0.01, ha="left")
        figure.legend(loc="outside lower center", ncols=len(names), frameon=False)
    return figure
