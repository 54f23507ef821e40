"""GCompris' word lists: a word in English -> the same word in each of its other languages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.activities import Activity
from data_prep.keys import record_key
from data_prep.languages import KNOWN_LANGUAGES
from data_prep.source import Source
from data_prep.sources import gcompris
from data_prep.split import concept

_NAME = "gcompris-words"
_ROOT = "usr/share/gcompris-qt/rcc"


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`term` records. A list maps the file of a word's recording, named in English, to the word."""
    activity = Activity(folders["gcompris-qt-data"] / _ROOT, "lang")
    lists = {
        path.removeprefix("resource/content-").removesuffix(".json"): _list(activity, path)
        for path in activity.files(r"resource/content-[\w@]+\.json")
    }
    if "en" not in lists:
        raise DataError(f"{_NAME}: the package holds no English word list; delete its folder and build again")
    for language, words in lists.items():
        if language == "en":
            continue
        if language not in KNOWN_LANGUAGES:
            drops[f"{language}: unknown to the text backbone"] += len(words)
            continue
        for file, english in lists["en"].items():
            word = words.get(file, "").strip()
            if not word or not english.strip() or word.casefold() == english.strip().casefold():
                drops["word that is missing or the English one"] += 1
                continue
            yield Record(
                key=record_key(_NAME, language, file),
                task="term",
                source=_NAME,
                concept=concept(english),
                queries=(Variant(Content(english.strip()), "en"),),
                positives=(Variant(Content(word), language),),
                extra={"language": language},
            )


def _list(activity: Activity, path: str) -> dict[str, str]:
    try:
        found = json.loads(activity.text(path))
    except ValueError as error:
        raise DataError(
            f"{_NAME}: {path} is not JSON ({error}); delete the package's folder and build again"
        ) from error
    return {file: word for file, word in found.items() if isinstance(word, str)}


SOURCE = Source(
    name=_NAME,
    packages=gcompris.SOURCE.packages,
    licence="GPL-3.0-or-later",
    provenance=gcompris.SOURCE.provenance,
    tiers=frozenset({"full"}),
    records=records,
)
