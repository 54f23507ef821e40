"""Unicode CLDR's keywords of a character -> its name, both in one language: descriptions made without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from data_prep.keys import record_key
from data_prep.source import Source
from data_prep.sources.cldr_names import PACKAGE, annotations, asked_languages, names_of
from data_prep.split import emoji_concept

_NAME = "cldr-keywords"
_FEWEST = 2  # keywords that say something beside the name


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`keyword` records, for training alone: in English, and in a few other languages for each character."""
    tables = annotations(folders[PACKAGE.name], _NAME)
    names = names_of(tables)
    for character, english in names["en"].items():
        found = {}
        for language, table in names.items():
            if character in table:
                keywords = _keywords(tables[language][character].get("default", []), table[character])
                if len(keywords) >= _FEWEST:
                    found[language] = keywords
                else:
                    drops[f"fewer than {_FEWEST} keywords beside the name"] += 1
        others = asked_languages(english, found.keys() - {"en"})
        drops["beyond a few languages of a character"] += len(found.keys() - {"en"}) - len(others)
        for language in [*(["en"] if "en" in found else []), *others]:
            yield Record(
                key=record_key(_NAME, f"{ord(character[0]):x}", english, language),
                task="keyword",
                source=_NAME,
                concept=emoji_concept(english),
                queries=(Variant(Content(", ".join(found[language])), language),),
                positives=(Variant(Content(names[language][character]), language),),
                extra={"language": language, "synthetic": "keywords", "members": [emoji_concept(english)]},
            )


def _keywords(listed: list[str], name: str) -> list[str]:
    """Those that are not the name itself, each once, in their order."""
    kept = {word.casefold(): word for word in listed if word.strip() and word.casefold() != name.casefold()}
    return list(kept.values())


SOURCE = Source(
    name=_NAME,
    packages=(PACKAGE,),
    licence="Unicode-3.0",
    provenance="npm cldr-annotations-full 48.2.0",
    tiers=frozenset({"full"}),
    records=records,
)
