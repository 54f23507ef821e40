"""Plots of the report, each a function of rows to a figure; `png` turns a figure into bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import cKDTree

from commonspace.evaluation.comparison import Compared
from commonspace.evaluation.results import Row
from commonspace.evaluation.tables import FLOOR, Rows, ordered, retention

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
# Baselines in greys, the soup in red, others in colours that stay apart in print and for most eyes (Okabe and Ito, then
# Tol): as many as fill the columns of the tables.
_NAMED = {"chance": "#c8c8c8", "bm25": "#9a9a9a", "e5": "#6b6b6b", "late_fusion": "#000000", "soup": "#d1001f"}
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d1f", "#7f3c8d", "#332288",
            "#882255", "#b3b33c", "#117733", "#44aa99", "#ddcc77", "#aa4499", "#6699cc", "#661100", "#f4a582",
            "#4b3fff", "#00c2c7")  # fmt: skip


def colours(models: Sequence[str]) -> dict[str, str]:
    """One colour a model, the same in every plot of a report."""
    others = [name for name in ordered(models) if name not in _NAMED]
    return {**_NAMED, **{name: COLOURS[place % len(COLOURS)] for place, name in enumerate(others)}}


def png(figure: Figure, dpi: int = 110, colours: int | None = 256) -> bytes:
    """A figure as PNG, without the date, so that equal plots are equal files.

    A palette of `colours` makes a third of the size: half of them are the commonest shades, half the furthest apart,
    however few dots have them. None keeps every colour, for photographs.
    """
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    if colours is None:
        return out.getvalue()
    small = io.BytesIO()
    _painted(Image.open(out).convert("RGB"), colours).save(small, "PNG", optimize=True)
    return small.getvalue()


def _painted(picture: Image.Image, colours: int) -> Image.Image:
    """A picture in a palette, white among it, every dot in the nearest of its colours (Pillow is rougher)."""
    halves = (picture.quantize(colours // 2, way) for way in (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE))
    levels = [255, 255, 255, *[level for half in halves for level in half.getpalette()][3:]]
    pixels = np.asarray(picture).astype(np.uint32)
    there, where = np.unique(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2], return_inverse=True)
    nearest = cKDTree(np.reshape(levels, (-1, 3))).query(np.stack([there >> 16, there >> 8 & 255, there & 255], axis=1))
    painted = Image.fromarray(nearest[1].astype(np.uint8)[where].reshape(pixels.shape[:2]))
    painted.putpalette(levels)
    return painted


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, list(axes)


def tasks(rows: Rows, metric: str, subset: str) -> Figure | None:
    """Every task's value by model with its interval: a row of dots a task. Fine-tunes are left to `stages`."""
    cells = rows.headline(metric, subset)
    if not cells:
        return None
    names = sorted(cells, reverse=True)
    stage_of = {row.model: row.stage for row in rows.rows}
    models = [model for model in rows.models if any(model in cell for cell in cells.values())]
    kept = [model for model in models if stage_of[model] != "finetune" or model.startswith("specialist")]
    models = kept if "soup" in models else models
    palette = colours(rows.models)
    with matplotlib.rc_context(STYLE):
        figure, (axis,) = _figure(9, 1.2 + max(0.34, 0.07 * len(models)) * len(names))
        for place, model in enumerate(models):
            shift = (place - (len(models) - 1) / 2) * 0.8 / max(1, len(models))
            points = [(row, cells[name].get(model)) for row, name in enumerate(names)]
            _dots(axis, [(row - shift, cell) for row, cell in points if cell], palette[model], model)
        axis.set_yticks(range(len(names)), [f"{task} {direction}" for task, direction in names])
        axis.set_ylim(-0.6, len(names) - 0.4)
        axis.set_xlim(left=0)
        axis.set_xlabel(metric)
        figure.suptitle(f"{metric} by task, held-out, {_words(subset)}", x=0.01, ha="left")
        for row in range(0, len(names), 2):
            axis.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0, lw=0)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _dots(axis, points: Sequence[tuple[float, Row]], colour: str, label: str) -> None:
    heights, rows = zip(*points, strict=True)
    axis.errorbar(
        [row.value for row in rows], heights, xerr=_errors(rows), fmt="o", ms=3.5, lw=1, color=colour, label=label
    )


def _errors(rows: Sequence[Row]) -> list[list[float]]:
    """How far each value's interval reaches below and above it."""
    spans = [row.ci95 or (row.value, row.value) for row in rows]
    return [
        [max(0.0, row.value - low) for row, (low, _) in zip(rows, spans, strict=True)],
        [max(0.0, high - row.value) for row, (_, high) in zip(rows, spans, strict=True)],
    ]


def sizes(rows: Rows, model: str, metric: str = "NDCG@10") -> Figure | None:
    """What smaller Matryoshka sizes keep of the full size's value, one line a task; tasks at the floor are left out."""
    found = {name: shares for (name, full), shares in retention(rows, model, metric).items() if full >= FLOOR}
    if not found:
        return None
    with matplotlib.rc_context(STYLE):
        figure, (axis,) = _figure(9, 4.5)
        wheel = matplotlib.colormaps["tab20"].colors
        for place, (name, shares) in enumerate(found.items()):
            xs = sorted(shares)
            style = {"color": wheel[place % 20], "ls": "-" if place < 20 else "--"}
            axis.plot(xs, [shares[size] for size in xs], marker=".", lw=1, label=name, **style)
        xs = sorted({size for shares in found.values() for size in shares})
        means = [np.mean([shares[size] for shares in found.values() if size in shares]) for size in xs]
        axis.plot(xs, means, color="black", lw=2.5, marker="o", label="mean")
        axis.set_xscale("log", base=2)
        axis.set_xticks(xs, [str(size) for size in xs])
        axis.minorticks_off()
        axis.set_xlabel("size of the embedding")
        axis.set_ylabel(f"share of {metric} at full size")
        axis.set_title(f"Matryoshka sizes of {model}", loc="left")
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    return figure


def stages(rows: Rows, metric: str, subset: str) -> Figure | None:
    """From alignment over pretraining and fine-tuning to the soup: a panel a task that several of these models were
    asked, a colour a direction with its intervals, each panel with a scale of its own, a rule where a stage ends.

    Specialists (`specialist_*`), each asked tasks of its own, are no stage: they share the last place.
    """
    cells = rows.headline(metric, subset)
    stage_of = {row.model: row.stage for row in rows.rows}
    ours = [m for m in rows.models if stage_of[m] not in ("baseline", "rival")]
    alone = [m for m in ours if m.startswith("specialist")]
    models = [m for m in ours if m not in alone]
    ends = [x - 0.5 for x in range(1, len(models)) if stage_of[models[x]] != stage_of[models[x - 1]]]
    series = {
        name: [(x, cell[m]) for x, m in enumerate(models) if m in cell]
        for name, cell in sorted(cells.items())
        if sum(m in cell for m in models) > 1
    }
    if len(models) < 2 or not series:
        return None
    names = sorted({task for task, _ in series})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10, 2 + 1.8 * -(-len(names) // 3)), layout="constrained")
        panels = list(figure.subplots(-(-len(names) // 3), 3, squeeze=False, sharex=True).flat)
        for panel, name in zip(panels, names, strict=False):
            ways = {way: points for (task, way), points in series.items() if task == name}
            for place, (direction, points) in enumerate(ways.items()):
                aside = 0.15 * (place - (len(ways) - 1) / 2)  # intervals side by side
                style = {"ms": 3, "elinewidth": 0.8, "color": f"C{place}"}
                _intervals(panel, aside, points, fmt="o", label=direction, **style)
                apart = [(len(models), row) for m in alone if (row := cells[name, direction].get(m))]
                _intervals(panel, aside, apart, fmt="D", mfc="white", **style)
            for end in ends:
                panel.axvline(end, color="#bbbbbb", lw=0.8)
            panel.set_title(name, fontsize=9, loc="left", pad=18)  # the legend stands below it
            panel.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0, borderaxespad=0.3)
            panel.margins(y=0.1)
        for panel in panels[len(names) :]:
            panel.set_visible(False)
        for place, panel in enumerate(panels[: len(names)]):
            places = [*models, "specialist"] if alone else models
            panel.set_xticks(range(len(places)), places, rotation=45, ha="right", fontsize=7)
            panel.tick_params(labelbottom=place + 3 >= len(names))  # the lowest of its column
        figure.suptitle(
            f"Stages and soups, {metric}, {_words(subset)}", x=0.01, ha="left", fontweight="bold", fontsize=11
        )
    return figure


def _intervals(panel, aside: float, points: Sequence[tuple[int, Row]], **style) -> None:
    rows = [row for _, row in points]
    panel.errorbar([x + aside for x, _ in points], [row.value for row in rows], yerr=_errors(rows), **style)


def differences(found: Sequence[Compared]) -> Figure | None:
    """Paired differences from a baseline with their intervals; zero is no difference."""
    if not found:
        return None
    labels = [f"{one.model} - {one.baseline}\n{one.task} ({one.direction})" for one in found][::-1]
    with matplotlib.rc_context(STYLE):
        figure, (axis,) = _figure(8, 1.1 + 0.5 * len(found))
        for row, one in enumerate(reversed(list(found))):
            gap = one.difference
            clear = "#009e73" if gap.low > 0 else "#d55e00" if gap.high < 0 else "#6b6b6b"
            axis.errorbar(gap.value, row, xerr=[[gap.value - gap.low], [gap.high - gap.value]], fmt="o", color=clear)
        axis.axvline(0, color="black", lw=1)
        axis.set_yticks(range(len(labels)), labels, fontsize=7)
        axis.set_ylim(-0.6, len(labels) - 0.4)
        axis.set_xlabel(f"difference in {found[0].metric}, 95% over concepts and seeds")
        axis.set_title("Paired differences")
    return figure


def languages(rows: Rows, task: str, directions: Sequence[str], models: Sequence[str], metric: str) -> Figure | None:
    """Values by language, each language in a pool of its own, one panel a direction."""
    panels = {way: rows.by_language(task, way, metric, "all") for way in directions}
    panels = {way: found for way, found in panels.items() if found}
    if not panels:
        return None
    palette = colours(rows.models)
    scored = {model for found in panels.values() for cell in found.values() for model in cell}
    models = [model for model in dict.fromkeys(models) if model in scored]
    longest = max(len(found) for found in panels.values())
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(9, 1.2 + 0.16 * longest, len(panels))
        for axis, (way, found) in zip(axes, panels.items(), strict=True):
            order = sorted(found, key=lambda name, f=found: max(r.value for r in f[name].values()))
            for model in models:
                points = [(place, found[name][model]) for place, name in enumerate(order) if model in found[name]]
                axis.plot(
                    [r.value for _, r in points], [p for p, _ in points], "o", ms=3, color=palette[model], label=model
                )
            axis.set_yticks(range(len(order)), order, fontsize=6)
            axis.set_ylim(-1, len(order))
            axis.set_xlim(left=0)
            axis.set_xlabel(metric)
            axis.set_title(f"{task.removesuffix('_languages')} {way}")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


# Of the geometry: each measure's axis, and what a value means.
_SHAPES = {
    "modality_gap": "distance of centroids",
    "effective_rank": "directions in use",
    "uniformity": "log mean exp(-2 d^2), below 0 where spread",
    "alignment": "squared distance of a pair",
    "hubness": "skewness of the nearest",
    "mixed_recall_at_1": "R@1, all modalities in one pool",
    "mixed_wrong_modality": "share of first places",
    "direction_asymmetry": "difference of MRR",
}


def geometry(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure | None:
    """Every measure of the space by model, a panel each: dots by modality, pair of modalities, or task."""
    models = ordered(figures)
    panels = [name for name in _SHAPES if any(figures[model].get(name) for model in models)]
    if not panels:
        return None
    palette = colours(models)
    keys = {
        name: sorted({key for model in models for key in figures[model].get(name, {})}, reverse=True) for name in panels
    }
    heights = [0.7 + 0.17 * max(len(keys[name]) for name in panels[row : row + 2]) for row in range(0, len(panels), 2)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 0.6 + sum(heights)), layout="constrained")
        axes = figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights).flat
        for axis, name in zip(axes, panels, strict=False):
            rows = {key: row for row, key in enumerate(keys[name])}
            for model in models:
                values = figures[model].get(name, {})
                axis.plot(
                    list(values.values()), [rows[key] for key in values], "o", ms=3.5, color=palette[model], label=model
                )
            axis.set_yticks(range(len(rows)), list(rows), fontsize=7)
            axis.set_ylim(-0.7, len(rows) - 0.3)
            axis.axvline(0, color="black", lw=0.6)
            axis.set_xlabel(_SHAPES[name])
            axis.set_title(name.replace("_", " "))
        for axis in list(figure.axes)[len(panels) :]:
            axis.set_visible(False)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _words(subset: str) -> str:
    return {"all": "all queries", "no_near_duplicates": "queries without near-duplicates in training"}[subset]
