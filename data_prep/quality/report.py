"""What a mixture holds and what was left out of it: its report, and a manifest as a built tier has."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from data_prep.quality.agreement import spread
from data_prep.quality.rules import tally
from data_prep.quality.signals import Split
from data_prep.split import SPLITS

if TYPE_CHECKING:
    from data_prep.quality.mix import MixOptions

VERSION = 1
_EXAMPLES = 20


def report_of(
    tiers: Sequence[str],
    options: MixOptions,
    splits: Sequence[Split],
    others: Sequence[Split],
    table_of: dict[Split, pa.Table],
    reasons: dict[Split, np.ndarray],
    scores: dict[Split, np.ndarray],
) -> dict[str, Any]:
    """Rows kept by task, source and language; rows left out by reason, with examples of what is evaluated."""
    tasks: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    sources: dict[str, dict[str, Any]] = {}
    languages: dict[str, int] = defaultdict(int)
    examples: list[dict[str, str]] = []
    for split in splits:
        table, why = table_of[split], reasons[split]
        tasks[split.task][split.side] += int((why == "").sum())
        names = np.array(table.column("source").to_pylist(), object)
        for name in dict.fromkeys(names):
            mine = sources.setdefault(name, {"tiers": [], "tasks": {}, "dropped": {}})
            mine["tiers"] = sorted({*mine["tiers"], split.tier})
            counts = mine["tasks"].setdefault(split.task, dict.fromkeys(SPLITS, 0))
            counts[split.side] += int(((why == "") & (names == name)).sum())
            for reason, count in tally(why[names == name]).items():
                mine["dropped"][reason] = mine["dropped"].get(reason, 0) + count
        for code in table.filter(pa.array(why == "")).column("language").to_pylist():
            languages[code or "not stated"] += 1
        keys = table.column("key")
        for row in [row for row in np.flatnonzero(why != "") if why[row].startswith("evaluated")][:_EXAMPLES]:
            place = {"tier": split.tier, "task": split.task, "source": names[row]}
            examples.append({**place, "key": keys[row].as_py(), "why": why[row]})
    of_task = {task: [scores[split] for split in scores if split.task == task] for task in {one.task for one in scores}}
    return {
        "version": VERSION,
        "tiers": list(tiers),
        "evaluated_tiers": sorted({split.tier for split in [*splits, *others] if split.side != "train"}),
        "evaluated_rows": sum(len(table_of[split]) for split in [*splits, *others] if split.side != "train"),
        "options": json.loads(json.dumps(asdict(options), default=str)),
        "tasks": {task: tasks[task] for task in sorted(tasks)},
        "sources": sources,
        "dropped": tally(np.concatenate([reasons[split] for split in splits])),
        "languages": dict(sorted(languages.items(), key=lambda item: -item[1])),
        "leaks": examples[:_EXAMPLES],
        "agreement": spread({task: np.concatenate(rows) for task, rows in of_task.items()}),
    }


def not_scored_of(
    scores: Mapping[Split, np.ndarray], unlike: Mapping[tuple[str, bool], int]
) -> dict[str, dict[str, int]]:
    """{what a model was to judge: {task: rows of which it could not embed a side}}.

    `unlike` counts rows without vectors under (task, whether of training), as `likeness.Vectors.not_scored`.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for split, rows in scores.items():
        found["agreement"][split.task] += int(np.isnan(rows).sum())
    for (task, training), rows in unlike.items():
        found["likeness of training" if training else "likeness of what is evaluated"][task] += rows
    return {what: dict(sorted((+tasks).items())) for what, tasks in found.items()}


def manifest_of(name: str, manifests: dict[str, dict[str, Any]], report: dict[str, Any]) -> dict[str, Any]:
    """As a built tier has it, so that whatever reads those reads a mixture."""
    known = {source: about for tier in manifests.values() for source, about in tier.get("sources", {}).items()}
    sources = {}
    for source, counts in report["sources"].items():
        about = known.get(source, {})
        rows = sum(sum(tally.values()) for tally in counts["tasks"].values())
        sources[source] = {**about, "rows": rows, "tasks": counts["tasks"], "drops": counts["dropped"]}
    prints = {tier: manifest.get("fingerprint") for tier, manifest in manifests.items()}
    state = hashlib.sha256(json.dumps([prints, report["options"]], sort_keys=True).encode()).hexdigest()
    return {
        "version": VERSION,
        "name": name,
        "fingerprint": state,
        "tasks": report["tasks"],
        "sources": sources,
        "merged_concepts": {"groups": 0, "largest": []},
        "mixed_of": prints,
    }
