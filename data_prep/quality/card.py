"""The data card of a mixture: what is in it, under which licences, and what was left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.split import SPLITS

NAME = "README.md"
_LANGUAGES = 60


def page(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """The card as a page; every figure is of the report."""
    rows = {side: sum(counts[side] for counts in report["tasks"].values()) for side in SPLITS}
    counted = ", ".join(f"{rows[side]:,} {side}" for side in SPLITS)
    lines = [
        f"# Data of {manifest['name']}",
        "",
        f"A mixture of {', '.join(report['tiers'])}: {counted} rows. Written by `commonspace data mix`; its options "
        "and every count are in `quality.json` beside this file.",
        "",
        *_table(
            ("task", *SPLITS), [(task, *(counts[side] for side in SPLITS)) for task, counts in report["tasks"].items()]
        ),
        "",
        "## Sources and licences",
        "",
        "Weights trained on these rows may have to carry the terms of each when they are passed on.",
        "",
        *_table(("source", "licence", "role", "train rows", "left out"), _sources(manifest)),
        "",
        "## Left out of training",
        "",
        *(_table(("why", "rows"), list(report["dropped"].items())) if report["dropped"] else ["Nothing."]),
        "",
        *_evaluated(report),
        "## Languages",
        "",
        _languages(report["languages"]),
    ]
    if report["agreement"]:
        lines += [
            "",
            "## How well the sides of a row agree",
            "",
            "Quantiles of the cosine of both sides, all rows.",
            "",
        ]
        places = list(next(iter(report["agreement"].values())))
        lines += _table(("task", *places), [(task, *values.values()) for task, values in report["agreement"].items()])
    lines += _not_scored(report["not_scored"])
    return "\n".join(lines).rstrip() + "\n"


def _sources(manifest: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (
            name,
            source.get("licence", "not stated"),
            source.get("role", "train").replace("_", "-"),
            sum(counts["train"] for counts in source["tasks"].values()),
            sum(source["drops"].values()),
        )
        for name, source in manifest["sources"].items()
    ]


def _evaluated(report: Mapping[str, Any]) -> list[str]:
    found = {why: count for why, count in report["dropped"].items() if why.startswith("evaluated")}
    near, likeness = report["options"]["nearness"], report["options"]["likeness"]
    by_vector = f"; each kind also by a model's vectors (cosine at least {likeness['least']})" if likeness else ""
    lines = [
        "## What evaluations ask",
        "",
        f"Training rows were compared with {report['evaluated_rows']:,} dev and held-out rows of "
        f"{', '.join(report['evaluated_tiers']) or 'no tier'}: by bytes; pictures by perceptual hash (at most "
        f"{near['image']} bits apart), sounds by fingerprint (at least {near['sound']} of the bits), texts of at least "
        f"{report['options']['least_characters']} characters by what they read and by MinHash (at least "
        f"{near['text']}){by_vector}. {sum(found.values()):,} rows held something of them and were left out. Compared "
        "are all variants, parts and negatives of a row; clips and what stands in documents of several parts by bytes"
        f"{', vectors' if likeness else ''} and text alone.",
        "",
    ]
    if report["leaks"]:
        rows = [(one["tier"], one["task"], one["key"], one["why"]) for one in report["leaks"]]
        lines += [*_table(("tier", "task", "key", "why"), rows), ""]
    return lines


def _not_scored(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    rows = [(what, task, count) for what, tasks in counts.items() for task, count in tasks.items()]
    told = (
        "A side of these rows cannot be embedded: agreement lets them pass, likeness compares their other side alone."
    )
    return ["", "## Not scored", "", told, "", *_table(("for", "task", "rows"), rows)] if rows else []


def _languages(languages: Mapping[str, int]) -> str:
    listed = [f"{code} {count:,}" for code, count in languages.items()]
    more = f" and {len(listed) - _LANGUAGES} more" if len(listed) > _LANGUAGES else ""
    return f"Of the answers, as the sources state it ({len(listed)}): {', '.join(listed[:_LANGUAGES])}{more}."


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    cells = [
        [f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|") for value in row] for row in rows
    ]
    marks = ["---"] * len(head)
    return [f"| {' | '.join(row)} |" for row in (list(head), marks, *cells)]
