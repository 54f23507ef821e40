"""The plot of `speech.md`: every question by form, and native speech and gold words by pair of languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from commonspace.evaluation.plots import STYLE
from commonspace.evaluation.results import Row
from commonspace.evaluation.results_index import FINAL
from commonspace.evaluation.speech.forms import CASCADE, FORMS, GOLD, NATIVE, column
from commonspace.evaluation.speech.questions import DIRECTIONS
from commonspace.evaluation.tables import Rows

METRIC = "MRR@10"
_WORDS = {
    "en->en": "English speech,\nEnglish text",
    "xx->xx": "other speech,\nits language",
    "en->xx": "English speech,\nother languages",
    "xx->en": "other speech,\nEnglish text",
    "xx->yy": "other speech,\nother languages",
}
_COLOURS = {NATIVE: "#d1001f", CASCADE: "#0072b2", GOLD: "#e69f00"}
_LABELS = {NATIVE: "the sound itself", CASCADE: "its transcript", GOLD: "the recorded words"}


def pairs(rows: Rows, model: str) -> dict[tuple[str, str], Row]:
    """{(spoken, asked for): row} of a model, over all queries; of English for itself the headline."""
    found = {}
    for task, direction in DIRECTIONS.items():
        for language, cell in rows.by_language(task, direction, METRIC, "all").items():
            if model in cell:
                spoken, _, written = language.partition("->")
                found[spoken, written or spoken] = cell[model]
    return found


def draw(rows: Sequence[Row]) -> Figure | None:
    """Dots with intervals of every question above, matrices of languages below; None without a native row.

    Of several models the soup, else the last by name.
    """
    asked = Rows.of(row for row in rows if row.task in DIRECTIONS)
    end = column("", NATIVE)
    natives = [model.removesuffix(end) for model in asked.models if model.endswith(end)]
    if not natives:
        return None
    model = FINAL if FINAL in natives else natives[-1]
    matrices = {form: pairs(asked, column(model, form)) for form in (NATIVE, GOLD)}
    matrices = {form: cells for form, cells in matrices.items() if cells}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 9 if matrices else 4.4), layout="constrained")
        panels = figure.subplot_mosaic([["dots"] * max(1, len(matrices)), *([list(matrices)] if matrices else [])])
        _dots(panels["dots"], asked, model)
        for form, cells in matrices.items():
            image = _matrix(panels[form], cells)
            panels[form].set_title(f"{_LABELS[form]}, {METRIC} by pair of languages", loc="left", fontsize=9)
        if matrices:
            figure.colorbar(image, ax=[panels[form] for form in matrices], shrink=0.8, pad=0.01)
        figure.suptitle(
            f"Speech against transcripts: {model}, held-out, one query a concept", x=0.01, ha="left",
            fontweight="bold", fontsize=11,
        )  # fmt: skip
    return figure


def _dots(panel: Axes, asked: Rows, model: str) -> None:
    clean, every = (asked.headline(METRIC, subset) for subset in ("no_near_duplicates", "all"))
    names = [(task, way) for task, way in DIRECTIONS.items() if (task, way) in every][::-1]
    series = [
        (column(name, form), f"{name}, {_LABELS[form]}", _COLOURS[form], filled)
        for name, filled in ((model, True), ("e5", False))
        for form in FORMS
        if any(column(name, form) in cell for cell in every.values())
    ]
    for place, (asking, label, colour, filled) in enumerate(series):
        shift = 0.62 * (0.5 - (place + 0.5) / len(series))
        there = [(at, row) for at, name in enumerate(names) if (row := clean.get(name, every[name]).get(asking))]
        ends = [row.ci95 or (row.value, row.value) for _, row in there]
        panel.errorbar(
            [row.value for _, row in there],
            [at + shift for at, _ in there],
            xerr=[
                [max(0.0, row.value - low) for (_, row), (low, _) in zip(there, ends, strict=True)],
                [max(0.0, high - row.value) for (_, row), (_, high) in zip(there, ends, strict=True)],
            ],
            fmt="o" if filled else "D", ms=6 if filled else 4, mfc=colour if filled else "white", elinewidth=1.2,
            color=colour, alpha=1 if filled else 0.6, label=label,
        )  # fmt: skip
    for at, name in enumerate(names):
        guess = clean.get(name, every[name]).get("chance")
        if guess is not None:
            panel.plot(
                [guess.value] * 2, [at - 0.35, at + 0.35], color="#9a9a9a", lw=2, label="chance" if not at else None
            )
        if at % 2:
            panel.axhspan(at - 0.5, at + 0.5, color="#f4f4f4", zorder=0, lw=0)
    some = [next(iter(clean.get(name, every[name]).values())) for name in names]
    panel.set_yticks(
        range(len(names)),
        [f"{_WORDS[way]}\n{row.queries} queries of {row.pool:.0f}" for (_, way), row in zip(names, some, strict=True)],
    )
    panel.set_ylim(-0.5, len(names) - 0.5)
    panel.set_xlim(0, 1.01)
    panel.grid(axis="y", visible=False)
    panel.set_xlabel(f"{METRIC} without near-duplicates, 95% over concepts")
    panel.legend(loc="lower left", bbox_to_anchor=(-0.16, 1), ncols=len(series) + 1, fontsize=8, columnspacing=1)


def _matrix(panel: Axes, cells: Mapping[tuple[str, str], Row]) -> AxesImage:
    """Spoken languages by those asked for; a pair that was not asked, or too few times, stays grey."""
    spoken, written = (sorted({pair[side] for pair in cells}) for side in (0, 1))
    values = np.full((len(spoken), len(written)), np.nan)
    for (first, second), row in cells.items():
        values[spoken.index(first), written.index(second)] = row.value
    panel.set_facecolor("#eeeeee")
    image = panel.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = f"{value:.2f}".removeprefix("0")
            panel.text(x, y, text, ha="center", va="center", fontsize=7.5, color="white" if value < 0.6 else "black")
    panel.set_xticks(range(len(written)), written, fontsize=8)
    panel.set_yticks(range(len(spoken)), spoken, fontsize=8)
    panel.set_xlabel("text")
    panel.set_ylabel("speech")
    panel.grid(visible=False)
    return image
