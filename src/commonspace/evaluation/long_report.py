"""Sections of the report on manual pages and on long inputs, from their own rows beside a tier's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from commonspace.evaluation.comparison import Compared, read_comparisons
from commonspace.evaluation.long_rows import LongRow, long_table, read_long
from commonspace.evaluation.manual_pages import FOLDER as PAGES
from commonspace.evaluation.plots import COLOURS, STYLE
from commonspace.evaluation.results import read_all
from commonspace.evaluation.tables import Rows, comparison_table, task_table

_PAGES = (
    "A page of GIMP's manual as one content. page->captions: without its captions it asks for the set of them; "
    "caption->page: one caption asks for its page, from which it is taken out. `manual_page` is all of the page, "
    "`manual_text` its text alone, `manual_images` its images alone. Queries are of pages with at least three "
    "captioned figures (of every one of them in the differences, which resample pages; p values by Holm over four), "
    "pools hold all pages with one, of training too unless that was left out.\n\n"
)
_LONG = (
    "The title of a manual page asks for the content that holds it among pages of training, of so many parts, or of so "
    "many tokens, in all. Pools, queries and answers are the same at every length. `entered`: tokens the transformer "
    "sees, after a limit's cut or after merging; `seconds`: one content alone, from its files to its vector, median, "
    "on the machine of the run. Intervals resample pages; the last column is a paired difference.\n\n"
)


def blocks(folder: Path) -> Iterator[tuple[str, str, str]]:
    """(title, text, name of the plot or "") of the sections there are rows for."""
    rows = Rows.of(row for row in read_all(folder / PAGES) if row.split == "heldout")
    if rows.rows:
        found = read_comparisons(folder / PAGES)
        verdicts = "".join(f"- {said(one)}\n" for one in found if one.metric == "MRR@10")
        tables = [
            f"{metric}, {words}\n\n{task_table(rows, metric, 'all', every)}"
            for metric in ("MRR@10", "R@1")
            for words, every in (("one query a page", False), ("every query", True))
        ]
        yield "Manual pages", _PAGES + comparison_table(found) + "\n" + verdicts + "\n" + "\n".join(tables), ""
    long = heldout(folder)
    if long:
        yield "Long and interleaved inputs", _LONG + long_table(long), "long"


def said(one: Compared) -> str:
    """A page against a form of itself, in words."""
    gap = one.difference
    place = "better than" if gap.low > 0 else "worse than" if gap.high < 0 else "not told apart from"
    return (
        f"{one.model}, {one.direction}: a page is {place} {one.baseline}, {one.metric} {gap.value:+.3f} "
        f"[{gap.low:+.3f}, {gap.high:+.3f}], {gap.queries} queries of {gap.units} pages."
    )


def figures(folder: Path) -> Iterator[tuple[str, Figure | None]]:
    """The plot of long inputs, by the name its section gives it."""
    yield "long", quality_and_cost(heldout(folder))


def heldout(folder: Path) -> list[LongRow]:
    """Rows of long inputs that the report shows."""
    return [row for row in read_long(folder) if row.row.split == "heldout"]


def quality_and_cost(rows: Sequence[LongRow], metric: str = "MRR@10") -> Figure | None:
    """Quality against parts and against tokens, and seconds against tokens, a line a method; of the last model."""
    rows = [row for row in rows if row.row.metric == metric and row.row.model == rows[-1].row.model]
    if not rows:
        return None
    methods = list(dict.fromkeys(row.method for row in rows))
    palette = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(methods)}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        by_parts, by_tokens, cost = figure.subplots(1, 3)
        for name in methods:
            for axis, panel in (("parts", by_parts), ("tokens", by_tokens)):
                chosen = [row for row in rows if (row.method, row.axis) == (name, axis)]
                _quality(panel, chosen, axis, palette[name], name)
            of_tokens = sorted((row.tokens, row.seconds) for row in rows if (row.method, row.axis) == (name, "tokens"))
            if of_tokens:
                cost.plot(*zip(*of_tokens, strict=True), marker="o", ms=3.5, lw=1.2, color=palette[name], label=name)
        for panel, count in ((by_parts, "parts"), (by_tokens, "tokens"), (cost, "tokens")):
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
            panel.set_xlabel(f"{count} of a content")
        for panel in (by_parts, by_tokens):
            panel.set_ylim(bottom=0)
            panel.set_ylabel(f"{metric}, 95% over pages")
        cost.set_yscale("log")
        cost.set_ylabel("seconds a content, median")
        some = rows[0].row
        figure.suptitle(
            f"Long inputs: {some.model}, {some.split}, {some.queries} titles, pool {some.pool:.0f}", x=0.01, ha="left",
            fontweight="bold", fontsize=11,
        )  # fmt: skip
        figure.legend(*by_tokens.get_legend_handles_labels(), loc="outside lower center", ncols=len(methods))
    return figure


def _quality(panel: Axes, rows: Sequence[LongRow], axis: str, colour: str, label: str) -> None:
    rows = sorted(rows, key=lambda row: getattr(row, axis))
    places = [getattr(row, axis) for row in rows]
    panel.plot(places, [row.row.value for row in rows], marker="o", ms=3.5, lw=1.2, color=colour, label=label)
    spans = [row.row.ci95 or (row.row.value, row.row.value) for row in rows]
    panel.fill_between(places, [low for low, _ in spans], [high for _, high in spans], color=colour, alpha=0.08, lw=0)
