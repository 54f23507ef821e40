"""Plots of a mining report, each a function to a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from commonspace.evaluation.plots import COLOURS, STYLE
from commonspace.mining.candidates import EDGES
from commonspace.mining.mine import Mined
from commonspace.mining.rules import KNOWN_CORRECT, RULES

_GREEN, _RED = "#009e73", "#d1001f"
_GREYS = ("#3d3d3d", "#6b6b6b", "#9a9a9a", "#c8c8c8")  # of what is known to be correct


def scores(mined: Mined) -> Figure:
    """Above, densities of positives' and negatives' scores; below, neighbours in the window by what became of them."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 5.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for values, colour, name in ((mined.positives, _GREEN, "positives"), (mined.scores, _RED, "negatives")):
            if len(values):
                counts, _ = np.histogram(np.clip(values, -1, 1), EDGES)
                above.stairs(counts / len(values), EDGES, color=colour, lw=1.6, label=f"{name} ({len(values)})")
        above.set_ylabel("share")
        above.legend(fontsize=8)
        above.set_title(f"Scores of {mined.task}, {mined.direction}", loc="left")
        stacks = {"candidates": mined.fates[1]}
        stacks |= {rule: counts for rule, counts in zip(RULES, mined.fates[2:], strict=True) if counts.any()}
        below.hist(
            [EDGES[:-1] + np.diff(EDGES) / 2] * len(stacks),
            bins=list(EDGES),
            weights=list(stacks.values()),
            stacked=True,
            label=list(stacks),
            color=[_colour(name) for name in stacks],
        )
        below.set_ylabel("neighbours")
        below.set_xlabel("score")
        below.set_xlim(*_span(mined))
        below.legend(fontsize=7, ncols=2)
    return figure


def rules(numbers: Mapping[str, Any]) -> Figure:
    """How many neighbours each rule took out, how many were left, and how long lists are."""
    bars = {rule: count for rule, count in numbers["dropped"].items() if count}
    bars |= {"(candidates)": numbers["candidates"], "(kept)": numbers["kept"]}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.4 + 0.26 * len(bars)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        names = list(bars)[::-1]
        drawn = left.barh(names, [max(bars[name], 0.8) for name in names], color=[_colour(name) for name in names])
        left.bar_label(drawn, [f" {bars[name]}" for name in names], fontsize=8)
        left.set_xscale("log")
        left.margins(x=0.2)
        left.set_title("Neighbours in the window", loc="left")
        lengths = numbers["list_lengths"]
        drawn = right.bar([int(length) for length in lengths], list(lengths.values()), color=_RED)
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.bar_label(drawn, fontsize=8)
        right.set_xlabel("negatives in a list")
        right.set_title("Queries", loc="left")
    return figure


def teachers(mined: Mined) -> Figure:
    """Of each teacher the densities of its scores of positives and negatives."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 2.2 * len(mined.teachers) + 0.4), layout="constrained")
        panels = figure.subplots(len(mined.teachers), 1, squeeze=False)[:, 0]
        for panel, name, positives, scored in zip(
            panels, mined.teachers, mined.teacher_positives, mined.teacher_scores, strict=True
        ):
            both = np.concatenate([positives, scored])
            bins = np.histogram_bin_edges(both[np.isfinite(both)], 40)
            for values, colour, told in ((positives, _GREEN, "positives"), (scored, _RED, "negatives")):
                values = values[np.isfinite(values)]
                counts, _ = np.histogram(values, bins)
                panel.stairs(counts / max(1, len(values)), bins, color=colour, lw=1.6, label=f"{told} ({len(values)})")
            panel.set_title(name, loc="left", fontsize=8)
            panel.legend(fontsize=7)
        panels[-1].set_xlabel("teacher's score")
    return figure


def _colour(name: str) -> str:
    if name in ("candidates", "(candidates)"):
        return "#e8a0a8"
    if name == "(kept)":
        return _RED
    if name in KNOWN_CORRECT:
        return _GREYS[KNOWN_CORRECT.index(name)]
    return COLOURS[(RULES.index(name) - len(KNOWN_CORRECT)) % len(COLOURS)]


def _span(mined: Mined) -> tuple[float, float]:
    """Where there are scores, with a bin to spare."""
    counts = mined.fates[1:].sum(0) + np.histogram(np.clip(mined.positives, -1, 1), EDGES)[0]
    filled = np.flatnonzero(counts)
    return EDGES[max(0, filled[0] - 1)], EDGES[min(len(EDGES) - 1, filled[-1] + 2)]
