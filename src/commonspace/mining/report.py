"""What mining kept and dropped, to read before training on it: numbers as JSON, and a page with examples."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from commonspace.content import Content, Document, Text
from commonspace.data.shards import ShardReader
from commonspace.mining.mine import Mined

_EDGES = np.linspace(-1, 1, 41)
_MEANING = {
    "self": "the record's own positive",
    "same_id": "same query or same target, by content",
    "same_concept": "same concept",
    "same_text": "same text after NFKC, casefold and strip",
    "above_window": "ranked above the window",
    "margin": "scores too near the positive: taken for another correct answer",
    "repeated": "target already in the list",
}


def report_numbers(mined: Mined, details: dict[str, Any]) -> dict[str, Any]:
    """Counts, list lengths and score histograms (40 bins from -1 to 1) as JSON values; `details` say what was run."""
    negatives = [score for scores in mined.scores.values() for score in scores]
    return {
        "task": mined.task,
        **details,
        "queries": len(mined.negatives),
        "kept": len(negatives),
        "list_lengths": {str(k): v for k, v in sorted(Counter(map(len, mined.negatives.values())).items())},
        "dropped": mined.dropped,
        "skipped": mined.skipped,
        "edges": _EDGES.round(3).tolist(),
        "positive_scores": np.histogram(np.clip(mined.positives, -1, 1), _EDGES)[0].tolist(),
        "negative_scores": np.histogram(np.clip(negatives, -1, 1), _EDGES)[0].tolist(),
    }


def write_report(
    folder: Path, reader: ShardReader, mined: Mined, details: dict[str, Any], *, examples: int = 20, seed: int = 0
) -> dict[str, Any]:
    """`<task>.json` and `<task>.md` in `folder`; `seed` chooses the examples. Returns the numbers."""
    numbers = report_numbers(mined, details)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{mined.task}.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n")
    keys = [key for key, negatives in mined.negatives.items() if negatives]
    chosen = random.Random(seed).sample(keys, min(examples, len(keys)))
    lines = [*_summary(numbers), "", f"## {len(chosen)} examples", ""]
    for key in chosen:
        lines += _example(reader, mined, key)
    (folder / f"{mined.task}.md").write_text("\n".join(lines) + "\n")
    return numbers


def _summary(numbers: dict[str, Any]) -> list[str]:
    lengths = ", ".join(f"{count} of {length}" for length, count in numbers["list_lengths"].items())
    return [
        f"# Hard negatives of {numbers['task']}",
        "",
        f"{numbers['kept']} negatives for {numbers['queries']} queries (lists: {lengths}); "
        f"{len(numbers['skipped'])} records could not be read.",
        "",
        "| taken out | neighbours | why |",
        "|---|---|---|",
        *(f"| {rule} | {count} | {_MEANING[rule]} |" for rule, count in numbers["dropped"].items()),
        "",
        "| score | positives | negatives |",
        "|---|---|---|",
        *_histogram(numbers),
    ]


def _histogram(numbers: dict[str, Any]) -> list[str]:
    edges = numbers["edges"]
    rows = zip(edges[:-1], edges[1:], numbers["positive_scores"], numbers["negative_scores"], strict=True)
    return [f"| {low:.2f} to {high:.2f} | {pos} | {neg} |" for low, high, pos, neg in rows if pos or neg]


def _example(reader: ShardReader, mined: Mined, key: str) -> list[str]:
    record = reader.read(reader.row_of(key))
    place = list(mined.negatives).index(key)
    lines = [
        f"**{key}** ({record.concept})",
        f"- query: {describe(record.queries[0].content)}",
        f"- positive {mined.positives[place]:.3f}: {describe(record.positives[0].content)}",
    ]
    for other, score in zip(mined.negatives[key], mined.scores[key], strict=True):
        wrong = reader.read(reader.row_of(other))
        lines.append(f"- negative {score:.3f}: {describe(wrong.positives[0].content)} ({wrong.concept})")
    return [*lines, ""]


def describe(content: Content, length: int = 160) -> str:
    """A content on one line: its texts, and its media by name."""
    words = []
    for part in content.parts:
        inner = part.parts if isinstance(part, Document) else (part,)
        words += [p.text if isinstance(p, Text) else f"[{type(p).__name__.lower()} {p.label}]" for p in inner]
    line = " ".join(" ".join(words).split())
    return line if len(line) <= length else line[: length - 3] + "..."
