"""`results.md` and `report.html` of a tier, made from rows alone: every figure in them can be found in a JSON line.

Paired differences need ranks, which git ignores; they are computed where ranks lie and kept in `comparisons.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from commonspace.errors import DataError
from commonspace.evaluation import long_report, plots
from commonspace.evaluation.comparison import (
    Compared,
    compare_models,
    primary,
    read_comparisons,
    still_true,
    write_comparisons,
)
from commonspace.evaluation.explanations import (
    COMPOSED_QUERIES,
    EVERY_QUERY,
    GEOMETRY,
    LANGUAGES,
    PRIMARY_MEASURE,
    QUANTISED,
    SOUPS,
    verdict,
)
from commonspace.evaluation.page import render
from commonspace.evaluation.results import ranks_path, read_all, read_geometry
from commonspace.evaluation.results_index import FINAL, write_index
from commonspace.evaluation.seen import seen_text
from commonspace.evaluation.soups import against_best, best_ingredients
from commonspace.evaluation.specs import COMPOSED, PRIMARY
from commonspace.evaluation.tables import (
    Rows,
    comparison_table,
    language_table,
    markdown,
    ordered,
    precision_table,
    retention_table,
    task_table,
)
from commonspace.files import replaced
from commonspace.tracking.lineage import Lineage, read_lineage

_LANGUAGE_TASKS = (
    ("image_caption_languages", ("text->image", "image->text")),
    ("speech_languages", ("text->speech", "speech->text")),
    ("crosslingual", ("en->xx", "xx->en")),
)


def models(folder: Path) -> list[str]:
    """Models evaluated in a tier's folder of results."""
    return ordered(row.model for row in read_all(folder))


def write(folder: Path, docs: Path | None = None) -> Path:
    """Write `results.md`, its plots and `report.html` into the folder that holds the rows. Returns the report's path.

    Where that folder is one of `docs`/results, the index of all tiers, `docs`/results.md, is made anew too. What is
    read of ranks is kept beside (comparisons.json, near_duplicates.json); nothing else in the folder is touched but
    plots of an earlier report that this one lacks. Raises DataError where there are
    no rows.
    """
    rows = Rows.of(read_all(folder))
    if not rows.rows:
        raise DataError(f"{folder}: no result rows; run `commonspace evaluate` first")
    found = comparisons(folder, rows.models)
    blocks = list(_blocks(folder, rows, found))
    pictures = {}
    for name, figure in _figures(folder, rows, found):
        if figure is None:
            (folder / f"{name}.png").unlink(missing_ok=True)
        else:
            pictures[name] = plots.png(figure)
            _write(folder / f"{name}.png", pictures[name])
    text = _document(folder.name, blocks, pictures)
    _write(folder / "results.md", text.encode())
    _write(folder / "report.html", render(text, pictures).encode())
    if docs is not None and folder.resolve().parent == (docs / "results").resolve():
        write_index(folder.parent)
    return folder / "report.html"


def comparisons(folder: Path, names: Sequence[str]) -> list[Compared]:
    """Every trained model against late fusion on the primary measure and R@1, then on composed queries; soups against
    their best ingredient on every task.

    Pairs whose ranks lie here are computed; the rest is taken from `comparisons.json`, where it is of the same rows.
    """
    with_ranks = {name for name in names if ranks_path(folder, name).exists()}
    trained = [name for name in names if name not in ("chance", "bm25", "e5") and not name.startswith("late_fusion")]
    found: list[Compared] = []
    for model in trained:
        if {model, "late_fusion"} <= with_ranks:
            found += primary(folder, model)
            found += primary(folder, model, metric="R@1")
        for baseline in ("late_fusion_sum", "late_fusion_mlp"):
            if {model, baseline} <= with_ranks:
                found += compare_models(folder, model, baseline, COMPOSED)
    found += against_best(folder, names)
    if FINAL in with_ranks:
        others = with_ranks & set(trained) - {FINAL, best_ingredients(folder, names).get(FINAL)}
        for other in ordered(others):
            found += compare_models(folder, FINAL, other, PRIMARY)
    fresh = {(one.model, one.baseline) for one in found}
    kept = [one for one in still_true(folder, read_comparisons(folder)) if (one.model, one.baseline) not in fresh]
    found += [one for one in kept if {one.model, one.baseline} <= set(names)]
    write_comparisons(folder, found)
    return found


def _blocks(folder: Path, rows: Rows, found: Sequence[Compared]) -> Iterator[tuple[str, str, str]]:
    """(title, text, name of the plot or "") of every section."""
    against = [one for one in found if one.baseline == "late_fusion"]
    if against:  # a folder without late fusion, as of a study of soups, has nothing to be measured against
        yield "Primary measure", PRIMARY_MEASURE + _differences(against), "differences"
    for metric in ("MRR@10", "R@1"):
        for subset in ("no_near_duplicates", "all"):
            words = "without near-duplicates in training" if subset != "all" else "all queries"
            plot = f"tasks_{subset}" if metric == "MRR@10" else ""
            yield f"{metric}, one query a concept, {words}", task_table(rows, metric, subset), plot
    yield "NDCG@10, one query a concept, all queries", task_table(rows, "NDCG@10", "all"), ""
    yield "MRR@10, every query", EVERY_QUERY + task_table(rows, "MRR@10", "all", every_query=True), ""
    composed = [one for one in found if one.task in COMPOSED and one.baseline.startswith("late_fusion")]
    yield "Composed queries", COMPOSED_QUERIES + _differences(composed), "composed"
    yield "The soup against its ingredients, earlier stages and specialists", _soup_text(found), "stages"
    if souped := _souped(folder, rows, found):
        yield "Soups against their best ingredient", SOUPS + souped, ""
    sized = _shown(rows)
    yield f"Matryoshka sizes of {sized}", "Share of NDCG@10 at full size.\n\n" + retention_table(rows, sized), "sizes"
    if quantised := precision_table(read_all(folder)):
        yield "Quantised vectors", QUANTISED + quantised, ""
    for task, ways in _LANGUAGE_TASKS:
        tables = [
            f"{way}\n\n{language_table(rows, task, way)}"
            for way in ways
            if rows.by_language(task, way, "MRR@10", "all")
        ]
        if tables:
            yield f"By language: {task.removesuffix('_languages')}", LANGUAGES + "\n".join(tables), task
    yield "Near-duplicates", seen_text(folder, rows), ""
    yield from long_report.blocks(folder)
    shapes = read_geometry(folder)
    if shapes:
        yield "Geometry", _geometry_text(shapes), "geometry"
    yield "How these rows were made", _commands(rows) + _other_runs(folder), ""


def _shown(rows: Rows) -> str:
    """The model that stands for all: the soup, or the last there is before one."""
    return FINAL if FINAL in rows.models else rows.models[-1]


def _figures(folder: Path, rows: Rows, found: Sequence[Compared]) -> Iterator[tuple[str, Figure | None]]:
    yield "differences", plots.differences([o for o in found if o.baseline == "late_fusion" and o.metric == "MRR@10"])
    tuned = {row.model for row in rows.rows if row.stage == "finetune"}  # theirs are in the table
    composed = [one for one in found if one.task in COMPOSED and one.baseline.startswith("late_fusion")]
    yield "composed", plots.differences([o for o in composed if o.model not in tuned] or composed)
    for subset in ("no_near_duplicates", "all"):
        yield f"tasks_{subset}", plots.tasks(rows, "MRR@10", subset)
    yield "stages", plots.stages(rows, "MRR@10", "no_near_duplicates") or plots.stages(rows, "MRR@10", "all")
    yield "sizes", plots.sizes(rows, _shown(rows))
    shown = [name for name in ("e5", "late_fusion", "pretrain", _shown(rows)) if name in rows.models]
    for task, ways in _LANGUAGE_TASKS:
        yield task, plots.languages(rows, task, ways, shown, "MRR@10")
    yield "geometry", plots.geometry(read_geometry(folder))
    yield from long_report.figures(folder)


def _differences(found: Sequence[Compared]) -> str:
    """The table, and a sentence on each difference of MRR@10."""
    return comparison_table(found) + "\n" + "".join(verdict(one) for one in found if one.metric == "MRR@10")


def _soup_text(found: Sequence[Compared]) -> str:
    others = [one for one in found if one.model == FINAL and not one.baseline.startswith("late_fusion")]
    return comparison_table([one for one in others if one.task in PRIMARY])


def _souped(folder: Path, rows: Rows, found: Sequence[Compared]) -> str:
    pairs = best_ingredients(folder, rows.models).items()
    compared = [one for one in found if (one.model, one.baseline) in pairs]
    return comparison_table(compared) if compared else ""


def _geometry_text(shapes: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    names = ordered(shapes)
    parts = []
    for measure in ("modality_gap", "uniformity", "effective_rank", "alignment", "hubness", "mixed_recall_at_1",
                    "mixed_wrong_modality", "direction_asymmetry"):  # fmt: skip
        keys = sorted({key for name in names for key in shapes[name].get(measure, {})})
        lines = [[key, *(_number(shapes[name].get(measure, {}).get(key)) for name in names)] for key in keys]
        if lines:
            parts.append(markdown([measure.replace("_", " "), *names], lines))
    return GEOMETRY + "\n".join(parts)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _other_runs(folder: Path) -> str:
    """A line for each model whose rows come from other models than the soup's of the same names; by lineage."""
    traced = {path.relative_to(folder): read_lineage(path) for path in sorted(folder.rglob("*.lineage.json"))}
    final = traced.get(Path(f"{FINAL}.lineage.json"), {})
    tiers = _tiers(final)
    known = {node.name: node.id for node in final.values() if node.kind == "model"}
    lines = []
    for path, lineage in traced.items():
        models = [node for node in lineage.values() if node.kind == "model"]
        others = [node.name for node in models if known.get(node.name, node.id) != node.id]
        if others and _tiers(lineage) == tiers:
            rows = path.as_posix().removesuffix(".lineage.json")
            lines.append(
                f"- Rows of `{rows}` come from another run than `{FINAL}`: by another {', another '.join(others)}.\n"
            )
    return "\n" + "".join(lines) if lines else ""


def _tiers(lineage: Lineage) -> set[str]:
    return {node.name for node in lineage.values() if node.kind == "shards"}


def _commands(rows: Rows) -> str:
    seen: dict[str, Any] = {}
    for row in rows.rows:
        seen.setdefault(row.model, row)
    seeds = pd.Series([row.seed for row in rows.rows], dtype="Int64")
    lines = [
        [name, seen[name].stage, seen[name].prefix_policy, seen[name].precision, seen[name].run_id or "",
         seen[name].commit or "", f"`{seen[name].command}`" if seen[name].command else ""]
        for name in rows.models
    ]  # fmt: skip
    note = "" if seeds.isna().all() else "Models with a seed in their rows were trained once with it.\n\n"
    return note + markdown(["model", "stage", "prefixes", "precision", "run", "commit", "command"], lines)


def _document(tier: str, blocks: Sequence[tuple[str, str, str]], pictures: Mapping[str, bytes]) -> str:
    parts = [
        f"# Results, tier {tier}\n",
        "Generated from the rows beside this file; nothing here is typed. In every cell: value and 95% interval, "
        "concepts resampled. The best of a row is bold, whether or not it is told apart from the next.\n",
    ]
    for title, text, plot in blocks:
        picture = f"\n![{title}]({plot}.png)\n" if plot in pictures else ""
        parts.append(f"## {title}\n\n{text}{picture}")
    return "\n".join(parts)


def _write(path: Path, data: bytes) -> None:
    with replaced(path) as partial:
        partial.write_bytes(data)
