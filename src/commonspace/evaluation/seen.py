"""What the report says of queries that training has seen something near to: how many, and why they count."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from commonspace.evaluation.results import ranks_path, read_ranks
from commonspace.evaluation.tables import Rows, markdown
from commonspace.files import write_text

NEAR_DUPLICATES = "near_duplicates.json"  # kept of ranks, which are not in git, so that a clone makes the same page
_NEAR = ("image hash", "image feature", "text", "audio")


def seen_text(folder: Path, rows: Rows) -> str:
    """Queries by why they count as seen; the frozen-feature rule apart, for that trunk is the model's own."""
    path = next((ranks_path(folder, name) for name in rows.models if ranks_path(folder, name).exists()), None)
    intro = (
        "A query counts where either side of its pair is near to training: an image by perceptual hash (distance <= 6) "
        "or by centred frozen features (cosine >= 0.9), a text that reads the same, a sound that is identical or whose "
        "fingerprint agrees in 90% of its bits. Filters drop queries, never gallery items.\n\n"
    )
    counts, share = folder / NEAR_DUPLICATES, _share_lines(rows)
    found = json.loads(counts.read_text()) if counts.is_file() else {}
    if path is not None:
        found |= _counts(read_ranks(folder, path.name.removesuffix(".ranks.parquet")))
    asked = {f"{row.task} {row.direction}" for row in rows.rows}
    found = {name: found[name] for name in sorted(found) if name in asked}
    if not found:
        return intro + share
    write_text(counts, json.dumps(found, indent=1) + "\n")
    lines = [[name, *(str(of[key]) for key in ("queries", *_NEAR))] for name, of in found.items()]
    return intro + markdown(["task", "queries", *_NEAR], lines) + "\n" + share


def _counts(ranks: pd.DataFrame) -> dict[str, dict[str, int]]:
    """{task and direction: {"queries": all of them, reason: how many count as seen by it}}."""
    table = ranks[~ranks["grouped"]].drop_duplicates(["task", "direction", "query"])
    return {
        f"{task} {direction}": {"queries": len(part)}
        | {reason: int((part["near_duplicate"] == reason).sum()) for reason in _NEAR}
        for (task, direction), part in table.groupby(["task", "direction"])
    }


def _share_lines(rows: Rows) -> str:
    every, clean = (rows.headline("MRR@10", subset) for subset in ("all", "no_near_duplicates"))
    lines = []
    for name in sorted(every):
        before = next(iter(every[name].values())).queries
        after = next(iter(clean[name].values())).queries if name in clean else 0
        lines.append([" ".join(name), str(before), str(after)])
    return "Concepts asked for, before and after:\n\n" + markdown(["task", "all", "without near-duplicates"], lines)
