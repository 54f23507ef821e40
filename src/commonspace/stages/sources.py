"""What a model was trained on, for its card: each source with its licence, rows and origin.

A later stage goes on from an earlier model, and a soup from several, so their lines are taken over from their cards:
a model folder carries the whole list, wherever it is copied to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from commonspace.data.shards import ShardReader
from commonspace.data.storage import RemoteFolder
from commonspace.evaluation.tables import markdown
from commonspace.models.folder import read_json
from commonspace.models.parts import parts_line, pretrained_parts

_HEADER = ("source", "licence", "training rows", "origin")
_ABOUT = """
Rows are those of the tasks a stage draws from, the most that one stage had. The licences ask for different things, GPL
and CC-BY-SA among them, and whether weights are adapted material of their data is not settled: docs/data.md of the
project says what that means, and has the hashes of the files.
"""


@dataclass(frozen=True)
class Source:
    """One line of the table; `origin` is empty where the tier has no manifest. A pretrained part has no rows here."""

    licence: str
    rows: int
    origin: str = ""


def drawn_sources(tier: Path | RemoteFolder, tasks: Iterable[str]) -> dict[str, Source]:
    """Sources of the training rows of some tasks, read off their shards' indexes; a task without any adds nothing."""
    licences: dict[str, str] = {}
    rows: dict[str, int] = {}
    for task in tasks:
        if not (tier / task / "train.json").is_file():
            continue
        reader = ShardReader(tier / task, "train")
        names, counts = np.unique(reader.column("source").astype(str), return_counts=True)
        for name, count in zip(names.tolist(), counts.tolist(), strict=True):
            licences[name] = reader.licences[name]
            rows[name] = rows.get(name, 0) + count
    origins = _origins(tier)
    return {name: Source(licences[name], rows[name], origins.get(name, "")) for name in sorted(rows)}


def card_sources(folder: Path) -> dict[str, Source]:
    """Sources that a model folder's card lists, if it has such a table, and the parts that its config.json names."""
    card = folder / "README.md"
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    head = markdown(_HEADER, []).splitlines()[0]
    found: dict[str, Source] = {}
    for line in lines[lines.index(head) + 2 :] if head in lines else []:
        if not line.startswith("| "):
            break
        name, licence, rows, origin = _cells(line)
        found[name] = Source(licence, int(rows.replace(",", "")), origin)
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return found | {name: Source(licence, 0) for name, licence in pretrained_parts(config).items()}


def merged(tables: Sequence[Mapping[str, Source]]) -> dict[str, Source]:
    """All sources of several tables, each with the most rows that one of them has."""
    found: dict[str, Source] = {}
    for table in tables:
        for name, source in table.items():
            if name not in found or source.rows > found[name].rows:
                found[name] = source
    return dict(sorted(found.items()))


def sources_section(sources: Mapping[str, Source]) -> str:
    """The card's section on data and licences, and the pretrained parts among the sources."""
    lines = [[name, one.licence, f"{one.rows:,}", one.origin] for name, one in sources.items() if one.rows]
    parts = parts_line({name: one.licence for name, one in sources.items() if not one.rows})
    table = markdown(_HEADER, lines) if lines else "No sources are known.\n"
    return "## Trained on\n\n" + table + _ABOUT + (f"\n{parts}" if parts else "")


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _origins(tier: Path | RemoteFolder) -> dict[str, str]:
    path = tier / "manifest.json"
    if not path.is_file():
        return {}
    sources = json.loads(path.read_text(encoding="utf-8")).get("sources", {})
    return {name: source.get("provenance", "") for name, source in sources.items()}
