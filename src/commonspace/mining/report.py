"""What mining kept and dropped, to read before training on it: numbers as JSON, a page with plots and examples.

A task `x` has in the report folder x.json, x.md, x.html (with its pictures inside), x.scores.png, x.rules.png and,
where a side is more than text, x.examples.png. index.md and index.html have a line a task.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from commonspace.content import Content, Document, Text
from commonspace.data.shards import ShardReader
from commonspace.evaluation.page import render
from commonspace.evaluation.plots import png
from commonspace.mining import plots
from commonspace.mining.candidates import EDGES
from commonspace.mining.contact_sheet import Example, contact_sheet
from commonspace.mining.mine import SIDES, Mined
from commonspace.mining.parts import write_whole
from commonspace.mining.rules import RULES
from commonspace.mining.vectors import side_of

EXAMPLES = 20
MEANING = {
    "self": "the record's own target",
    "same_id": "same query or same target, by content",
    "same_concept": "same concept",
    "same_text": "same text after NFKC, casefold and strip",
    "above_window": "ranked above the window (skip)",
    "margin": "scores too near the positive, by share: taken for another correct answer",
    "absolute_margin": "scores too near the positive, by distance",
    "max_score": "scores above the bound",
    "min_score": "scores below the bound",
    "duplicate": "its target is a near copy of the record's own",
    "repeated": "target already in the list",
    "unscored": "a teacher has no score for it",
    "teacher_margin": "a teacher scores it too near the positive",
}


def report_numbers(mined: Mined, details: Mapping[str, Any]) -> dict[str, Any]:
    """Counts, list lengths and histograms (bins of `edges`) as JSON values; `details` say what was run."""
    histogram = lambda values: np.histogram(np.clip(values, -1, 1), EDGES)[0].tolist()  # noqa: E731
    lengths = Counter(mined.counts.tolist())
    return {
        "task": mined.task,
        "direction": mined.direction,
        **details,
        "queries": len(mined.asked),
        "kept": len(mined.rows),
        "list_lengths": {str(length): lengths[length] for length in sorted(lengths)},
        "candidates": int(mined.fates[1].sum()),
        "dropped": mined.dropped,
        "skipped": mined.skipped,
        "recall_of_graphs": mined.recall,
        "edges": EDGES.round(3).tolist(),
        "positive_scores": histogram(mined.positives),
        "negative_scores": histogram(mined.scores),
        "neighbour_scores": {
            name: counts.tolist() for name, counts in zip(("beyond", "left", *RULES), mined.fates, strict=True)
        },
        "ranks": _quantiles(mined.ranks),
        "teachers": {
            name: {"positives": _quantiles(positives), "negatives": _quantiles(scores)}
            for name, positives, scores in zip(
                mined.teachers, mined.teacher_positives, mined.teacher_scores, strict=True
            )
        },
    }


def _quantiles(values: np.ndarray) -> dict[str, float | None]:
    """Lowest, quarters and highest of what is a number; None where nothing is."""
    values = values[np.isfinite(values)]
    names = ("lowest", "quarter", "median", "three quarters", "highest")
    found = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)) if len(values) else [None] * 5
    return {name: None if value is None else round(float(value), 4) for name, value in zip(names, found, strict=True)}


def write_report(
    folder: Path, reader: ShardReader, mined: Mined, details: Mapping[str, Any], *, seed: int = 0
) -> dict[str, Any]:
    """The files of one task in `folder`, each whole or not at all; `seed` chooses the examples. Returns the numbers."""
    numbers = report_numbers(mined, details)
    name = mined.task if mined.direction == "forward" else f"{mined.task}.{mined.direction}"
    examples = _examples(reader, mined, seed)
    pictures = {f"{name}.scores": png(plots.scores(mined)), f"{name}.rules": png(plots.rules(numbers))}
    if mined.teachers:
        pictures[f"{name}.teachers"] = png(plots.teachers(mined))
    sheet = contact_sheet(examples)
    if sheet is not None:
        pictures[f"{name}.examples"] = sheet
    text = "\n".join([*_summary(numbers), *_shown(pictures), *_listed(examples, mined.teachers)]) + "\n"
    for picture, data in pictures.items():
        write_whole(folder / f"{picture}.png", lambda path, data=data: path.write_bytes(data))
    for ending, body in (("json", json.dumps(numbers, indent=1, ensure_ascii=False) + "\n"), ("md", text)):
        write_whole(folder / f"{name}.{ending}", lambda path, body=body: path.write_text(body, encoding="utf-8"))
    page = render(text, pictures)
    write_whole(folder / f"{name}.html", lambda path: path.write_text(page, encoding="utf-8"))
    return numbers


_INDEXED = {"queries", "kept", "list_lengths", "candidates", "dropped", "skipped"}


def write_index(folder: Path) -> None:
    """index.md and index.html: a line for each task whose numbers lie in the folder, as this version writes them."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    # An older version's lists may lie beside: its numbers say other things, until the task is mined again.
    all_numbers = {name: numbers for name, numbers in found.items() if set(numbers) >= _INDEXED}
    rows = [
        f"| {name} | {n['queries']} | {n['kept']} | {n['list_lengths'].get('0', 0)} | {n['candidates']} | "
        f"{n['dropped']['margin'] + n['dropped']['teacher_margin']} | {len(n['skipped'])} |"
        for name, n in all_numbers.items()
    ]
    text = "\n".join(
        [
            "# Hard negatives",
            "",
            "Each task has a page of its own beside this one.",
            "",
            "| task | queries | negatives | empty lists | candidates | taken for false negatives | not read |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    write_whole(folder / "index.md", lambda path: path.write_text(text, encoding="utf-8"))
    write_whole(folder / "index.html", lambda path: path.write_text(render(text, {}), encoding="utf-8"))


def _examples(reader: ShardReader, mined: Mined, seed: int) -> list[Example]:
    asks, answers = SIDES[mined.direction]
    filled = np.flatnonzero(mined.counts).tolist()
    chosen = random.Random(seed).sample(filled, min(EXAMPLES, len(filled)))
    examples = []
    for place in chosen:
        own, record = mined.list_of(place), reader.read(int(mined.asked[place]))
        wrong = [reader.read(int(row)) for row in mined.rows[own]]
        examples.append(
            Example(
                key=record.key,
                concept=record.concept,
                query=side_of(record, asks),
                positive=side_of(record, answers),
                negatives=[side_of(one, answers) for one in wrong],
                concepts=[one.concept for one in wrong],
                scores=[float(mined.positives[place]), *mined.scores[own].tolist()],
                ranks=mined.ranks[own].tolist(),
                teacher_scores=[
                    [float(positives[place]), *scores[own].tolist()]
                    for positives, scores in zip(mined.teacher_positives, mined.teacher_scores, strict=True)
                ],
            )
        )
    return examples


def _summary(numbers: Mapping[str, Any]) -> list[str]:
    lengths = ", ".join(f"{count} of {length}" for length, count in numbers["list_lengths"].items())
    about = {key: numbers[key] for key in ("model", "match", "prefixes", "selection", "search") if key in numbers}
    teachers = "; ".join(numbers["teachers"])
    return [
        f"# Hard negatives of {numbers['task']}, {numbers['direction']}",
        "",
        f"{numbers['kept']} negatives for {numbers['queries']} queries (lists: {lengths}); "
        f"{len(numbers['skipped'])} records could not be read. Nothing fills a short list.",
        "",
        "; ".join(f"{key} `{value}`" for key, value in about.items()) + (f"; teachers {teachers}" if teachers else ""),
        "",
        "| taken out | neighbours | why |",
        "|---|---|---|",
        *(f"| {rule} | {count} | {MEANING[rule]} |" for rule, count in numbers["dropped"].items()),
        f"| (left) | {numbers['candidates']} | candidates, before teachers |",
        f"| (kept) | {numbers['kept']} | negatives |",
        "",
        *_recall(numbers),
        "| of | lowest | quarter | median | three quarters | highest |",
        "|---|---|---|---|---|---|",
        _row("rank of negatives", numbers["ranks"]),
        *(
            _row(f"{name}: {side}", values)
            for name, sides in numbers["teachers"].items()
            for side, values in sides.items()
        ),
        "",
        *([f"Not read: {told}" for told in numbers["skipped"][:5]] + [""] if numbers["skipped"] else []),
    ]


def _recall(numbers: Mapping[str, Any]) -> list[str]:
    recall = numbers["recall_of_graphs"]
    return [] if recall is None else [f"Graphs find {recall:.1%} of the exact neighbours in the window.", ""]


def _row(name: str, values: Mapping[str, float | None]) -> str:
    return f"| {name} | {' | '.join('-' if value is None else f'{value:g}' for value in values.values())} |"


def _shown(pictures: Mapping[str, bytes]) -> list[str]:
    words = {
        "scores": "Scores of positives, neighbours and negatives",
        "rules": "What became of neighbours",
        "teachers": "What teachers say",
        "examples": "Examples: query, positive (green), negatives (red)",
    }
    return [line for name in pictures for line in (f"![{words[name.rsplit('.', 1)[1]]}]({name}.png)", "")]


def _listed(examples: Sequence[Example], teachers: Sequence[str]) -> list[str]:
    lines = [f"## {len(examples)} examples", ""]
    if teachers:
        lines += [f"After each score what the teachers say: {', '.join(teachers)}.", ""]
    for one in examples:
        lines += [f"### {one.key} ({one.concept})", ""]
        lines.append(f"- query: {describe(one.query)}")
        lines.append(f"- positive {one.told(0)}: {describe(one.positive)}")
        for place, (content, concept, rank) in enumerate(zip(one.negatives, one.concepts, one.ranks, strict=True)):
            lines.append(f"- negative {one.told(place + 1)}, rank {rank}: {describe(content)} ({concept})")
        lines.append("")
    return lines


def describe(content: Content, length: int = 160) -> str:
    """A content on one line: its texts, and its media by name."""
    words = []
    for part in content.parts:
        inner = part.parts if isinstance(part, Document) else (part,)
        words += [p.text if isinstance(p, Text) else f"[{type(p).__name__.lower()} {p.label}]" for p in inner]
    line = " ".join(" ".join(words).split())
    return line if len(line) <= length else line[: length - 3] + "..."
