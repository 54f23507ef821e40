"""The loss-barrier plot: what lies between the ingredients of a soup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from commonspace.evaluation.plots import COLOURS, STYLE


def barrier_figure(told: Mapping[str, Any]) -> Figure:
    """Loss above the line between each pair's ends, the scores on the way, and every pair's barrier as a table.

    told  what barriers.json holds (`stages.barriers`)
    """
    names = [one["name"] for one in told["ingredients"]]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 3.9), layout="constrained")
        above, scores, table = figure.subplots(1, 3)
    for place, pair in enumerate(told["pairs"]):
        shares, loss = np.array(pair["places"]), np.array(pair["loss"])
        label, colour = f"{pair['first']} to {pair['second']}", COLOURS[place % len(COLOURS)]
        style = ("-", "--", ":")[place // len(COLOURS) % 3]
        line = (1 - shares) * loss[0] + shares * loss[-1]
        above.plot(shares, loss - line, style, marker="o", ms=3, color=colour, label=label)
        scores.plot(shares, pair["score"], style, marker="o", ms=3, color=colour)
    above.axhline(0, color="black", lw=0.8)
    above.set(title="dev loss above the line between the ends", xlabel="share of the second", ylabel="loss")
    scores.set(title="dev MRR@10, mean over tasks", xlabel="share of the second")
    _heights(table, names, told["pairs"])
    figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _heights(axis, names: list[str], pairs: list[Mapping[str, Any]]) -> None:
    heights = np.full((len(names), len(names)), np.nan)
    for pair in pairs:
        row, column = names.index(pair["first"]), names.index(pair["second"])
        heights[row, column] = heights[column, row] = pair["barrier"]
    most = max(1e-9, float(np.nanmax(np.abs(heights))))
    axis.imshow(heights, cmap="RdBu_r", vmin=-most, vmax=most)
    for row, column in zip(*np.nonzero(~np.isnan(heights)), strict=True):
        value = heights[row, column]
        dark = abs(value) > 0.6 * most
        axis.text(
            column, row, f"{value:+.3f}", ha="center", va="center", fontsize=8, color="white" if dark else "black"
        )
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.grid(visible=False)
    axis.set_title("barrier (below 0: loss dips on the way)")
