"""A family in one figure: its cells, what is told apart, and task by task."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from commonspace.evaluation.plots import COLOURS, STYLE
from commonspace.evaluation.studies.compare import Level, Study
from commonspace.evaluation.studies.page import surface_of


def draw(study: Study) -> Figure:
    """Cells by level; differences to the reference with their intervals; each task less the reference's."""
    levels = study.levels[::-1]
    base = next((level for level in study.levels if level.label == study.reference), None)
    surface = surface_of(study)
    columns = 1 + (base is not None and len(levels) > 1) * 2 + (surface is not None and surface.explains)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.2 + 3.6 * columns, max(4.2, 1.3 + 0.26 * len(levels))), layout="constrained")
        axes = iter(np.atleast_1d(figure.subplots(1, columns)))
        _cells(next(axes), levels)
        if base is not None and len(levels) > 1:
            _differences(next(axes), levels)
            _tasks(figure, next(axes), levels, base)
        if surface is not None and surface.explains:
            _surface(next(axes), study, surface)
        figure.suptitle(f"{study.family}: {study.found} of {study.expected} cells", x=0.01, ha="left")
    return figure


def _cells(axis: Axes, levels: tuple[Level, ...]) -> None:
    for place, level in enumerate(levels):
        scores = list(level.cells.values())
        axis.plot(scores, [place] * len(scores), "o", ms=3.5, alpha=0.5, color=COLOURS[0])
        axis.plot([level.mean], [place], "|", ms=13, mew=2, color="black")
    axis.set_yticks(range(len(levels)), [level.label for level in levels], fontsize=7)
    axis.set_ylim(-0.5, len(levels) - 0.5)  # as the picture of tasks has it
    axis.set_xlabel("MRR@10 on dev; bars: means")
    axis.locator_params(axis="x", nbins=5)  # of nearly equal cells the numbers are long


def _differences(axis: Axes, levels: tuple[Level, ...]) -> None:
    for place, level in enumerate(levels):
        if level.difference is not None:
            apart = level.p_holm is not None and level.p_holm < 0.05
            axis.plot([level.difference.low, level.difference.high], [place, place], color=COLOURS[0])
            axis.plot(
                [level.difference.value], [place], "o", ms=5, color=COLOURS[0], mfc=COLOURS[0] if apart else "white"
            )
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(levels)), [])
    axis.set_ylim(-0.5, len(levels) - 0.5)
    axis.set_xlabel("difference to the reference; filled: p < 0.05")
    axis.locator_params(axis="x", nbins=5)


def _tasks(figure: Figure, axis: Axes, levels: tuple[Level, ...], base: Level) -> None:
    tasks = [task for task in base.by_task if all(task in level.by_task for level in levels)]
    gaps = np.array([[level.by_task[task] - base.by_task[task] for task in tasks] for level in levels])
    most = max(1e-9, float(np.abs(gaps).max()))
    drawn = axis.imshow(gaps, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", origin="lower")
    axis.set_xticks(range(len(tasks)), tasks, rotation=90, fontsize=6)
    axis.set_yticks(range(len(levels)), [])
    axis.grid(visible=False)
    figure.colorbar(drawn, label="less the reference's")


def _surface(axis: Axes, study: Study, surface) -> None:
    drawn = [level for level in study.levels if level.label.startswith("dirichlet")]
    points = np.array([[level.shares[medium] for medium in surface.media] for level in drawn])
    centre = points.mean(axis=0)
    for colour, medium, place in zip(COLOURS, surface.media, range(len(surface.media)), strict=False):
        share = np.linspace(0, max(0.05, float(points[:, place].max())), 50)
        line = (1 - share)[:, None] * centre / (1 - centre[place])
        line[:, place] = share
        axis.plot(share, surface.predict(line), color=colour, label=medium)
    axis.set(
        xlabel="share of a medium, others in their mean ratio", title=f"error on mixtures left out {surface.error:.4f}"
    )
    axis.legend(fontsize=7)
