"""Names that go into another language and come back as another name, through two dictionaries and without a model.

GCompris' words and CLDR's names of characters are entries, each named in English and in many languages. Two entries
that other languages call the same are one thing with two names: "alligator" and "crocodile" in English, by way of
those languages; or, of two entries with one English name, "hibou" and "chouette" in French, by way of English. One
language alone may have a word of two meanings, so several have to agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from data_prep.keys import record_key
from data_prep.source import Source
from data_prep.sources import gcompris_words
from data_prep.sources.cldr_names import PACKAGE, annotations, names_of
from data_prep.split import concept, emoji_concept

_NAME = "round-trip"
_AGREEING = 3  # languages that call both entries the same


@dataclass(frozen=True)
class Entry:
    """A thing: its name in English, the concept that its source gives it, and {language: name} of other languages."""

    english: str
    concept: str
    names: Mapping[str, str]


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`round_trip` records of the two dictionaries, for training alone."""
    yield from round_trips([*_words(folders), *_characters(folders[PACKAGE.name])], drops)


def _words(folders: Mapping[str, Path]) -> list[Entry]:
    names: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in gcompris_words.records(folders, Counter()):  # what it leaves out is in its own table
        names[_text(row.queries[0]), row.concept][row.extra["language"]] = _text(row.positives[0])
    return [Entry(english, name, found) for (english, name), found in names.items()]


def _characters(folder: Path) -> list[Entry]:
    tables = names_of(annotations(folder, _NAME))
    english = tables.pop("en")
    return [
        Entry(name, emoji_concept(name), {code: table[sign] for code, table in tables.items() if sign in table})
        for sign, name in english.items()
    ]


def round_trips(entries: Sequence[Entry], drops: Counter) -> Iterator[Record]:
    """Pairs of names for one thing: in English where the entries differ there, else in the languages they differ in."""
    seen: set[tuple[str, frozenset[str]]] = set()
    for (one, other), agreeing in sorted(_agreements(entries).items()):
        first, second = entries[one], entries[other]
        if agreeing < _AGREEING:
            drops[f"entries that fewer than {_AGREEING} languages call the same"] += 1
        elif concept(first.english) != concept(second.english):
            yield from _pair(first, second, "en", first.english, second.english, seen, drops)
        else:
            for language in sorted(first.names.keys() & second.names.keys()):
                yield from _pair(first, second, language, first.names[language], second.names[language], seen, drops)


def _agreements(entries: Sequence[Entry]) -> Counter:
    """{(entry, later entry): how many languages call both the same}."""
    called: dict[tuple[str, str], set[int]] = defaultdict(set)
    for number, entry in enumerate(entries):
        for language, name in entry.names.items():
            called[language, concept(name)].add(number)
    return Counter(pair for numbers in called.values() for pair in combinations(sorted(numbers), 2))


def _pair(
    first: Entry,
    second: Entry,
    language: str,
    one: str,
    other: str,
    seen: set[tuple[str, frozenset[str]]],
    drops: Counter,
) -> Iterator[Record]:
    shorter, longer = sorted((set(concept(one).split()), set(concept(other).split())), key=len)
    pair = (language, frozenset((concept(one), concept(other))))
    if shorter <= longer or pair in seen:
        drops["pair that other entries made" if pair in seen else "name that holds the other one"] += 1
        return
    seen.add(pair)
    yield Record(
        key=record_key(_NAME, language, first.english, second.english, one, other),
        task="round_trip",
        source=_NAME,
        concept=first.concept,
        queries=(Variant(Content(one), language),),
        positives=(Variant(Content(other), language),),
        extra={
            "language": language,
            "synthetic": "round trip",
            "members": sorted({first.concept, second.concept}),
        },
    )


def _text(variant: Variant) -> str:
    return variant.content.parts[0].text


SOURCE = Source(
    name=_NAME,
    packages=(*gcompris_words.SOURCE.packages, PACKAGE),
    licence="GPL-3.0-or-later (GCompris' words), Unicode-3.0 (CLDR names)",
    provenance=f"{gcompris_words.SOURCE.provenance}; npm cldr-annotations-full 48.2.0",
    tiers=frozenset({"full"}),
    records=records,
)
