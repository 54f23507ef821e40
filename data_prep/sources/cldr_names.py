"""Unicode CLDR: what emoji and symbols are called in English and in many other languages, as pairs of short texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.languages import KNOWN_LANGUAGES
from data_prep.source import Source
from data_prep.sources import openmoji
from data_prep.split import emoji_concept

_NAME = "cldr-names"
_ASKED = 8  # languages a character: each comes about as often
PACKAGE = next(package for package in openmoji.SOURCES[0].packages if package.name == "cldr-annotations-full")
_WRITTEN = {"zh-Hant": "zh_TW"}  # CLDR's folders whose language our sources write otherwise


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`term` records: a name in English -> the same in another language."""
    names = names_of(annotations(folders[PACKAGE.name], _NAME))
    for character, english in names.pop("en").items():
        found = {
            language: table[character]
            for language, table in names.items()
            if character in table and table[character].casefold() != english.casefold()
        }
        drops["name that is the English one, or missing"] += len(names) - len(found)
        drops[f"beyond {_ASKED} languages of a character"] += max(0, len(found) - _ASKED)
        for language in asked_languages(english, found):
            yield Record(
                key=record_key(_NAME, f"{ord(character[0]):x}", english, language),
                task="term",
                source=_NAME,
                concept=emoji_concept(english),
                queries=(Variant(Content(english), "en"),),
                positives=(Variant(Content(found[language]), language),),
                extra={"language": language},
            )


def asked_languages(english: str, languages: Iterable[str]) -> list[str]:
    """A few of the languages, others for another character, so that each comes about as often."""
    return sorted(languages, key=lambda code: blake2b(f"{english}/{code}".encode(), digest_size=8).digest())[:_ASKED]


def names_of(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """{language: {character: name}} of what `annotations` reads."""
    return {
        language: {character: entry["tts"][0] for character, entry in table.items() if entry.get("tts")}
        for language, table in tables.items()
    }


def annotations(folder: Path, source: str) -> dict[str, dict[str, Any]]:
    """{language: {character: {"tts": [name], "default": keywords}}}, English first, of every language that the text
    backbone knows; DataError names the `source` that asked where a file is missing or broken.
    """
    root = folder / "package/annotations"
    here = {path.name for path in root.iterdir() if path.is_dir()} if root.is_dir() else set()
    codes = sorted(({*KNOWN_LANGUAGES, *openmoji.LANGUAGES, *_WRITTEN} & here) - {"en", "nb"})  # nb: CLDR's is `no`
    found = {}
    for code in ("en", *codes):
        path = root / code / "annotations.json"
        try:
            table = json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{source}: {path} cannot be read ({error}); delete {folder} and build again") from error
        found[_WRITTEN.get(code, code)] = table
    return found


SOURCE = Source(
    name=_NAME,
    packages=(PACKAGE,),
    licence="Unicode-3.0",
    provenance="npm cldr-annotations-full 48.2.0",
    tiers=frozenset({"full"}),
    records=records,
)
