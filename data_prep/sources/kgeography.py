"""KGeography's flags of countries, states and provinces, by name; countries in many languages through CLDR's emoji."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.pictures import small_picture
from data_prep.source import Package, Source
from data_prep.sources.openmoji_variants import CLDR_DERIVED, derived_names
from data_prep.split import concept

_NAME = "kgeography"
_ROOT = "usr/share/kgeography"
_FLAG = "flag: "  # how CLDR names the emoji of a country in English

_PACKAGE = Package(
    client="apt",
    name="kgeography-data",
    version="4:22.12.3-1",
    filename="kgeography-data_4%3a22.12.3-1_all.deb",
    sha256="1cdaf45dea7cbf1682a05109b4e9299934f0a60ca8866fa957cf4d9dcfe3982a",
    bytes=10865148,
)


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`image_caption` records: a flag -> whose it is. The concept is that of the emoji of the same flag."""
    root = folders[_PACKAGE.name] / _ROOT
    names = derived_names(folders[CLDR_DERIVED.name])
    countries = {name.removeprefix(_FLAG): character for character, name in names["en"].items() if _FLAG in name}
    done: set[str] = set()
    for path in sorted(root.glob("*.kgm")):
        for name, flag in _divisions(path):
            if flag in done:
                continue
            done.add(flag)
            record = _record(root, name, flag, countries.get(name), names)
            if record is None:
                drops["flag that cannot be read"] += 1
            else:
                yield record


def _divisions(path: Path) -> Iterator[tuple[str, str]]:
    """(name, flag's file) of the parts of a map that have a flag."""
    data = path.read_bytes()
    try:
        if b"<!ENTITY" in data:
            raise DataError(f"{_NAME}: {path} declares entities; delete its folder and build again")
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f"{_NAME}: {path} is no map ({error}); delete its folder and build again") from error
    for division in root.iter("division"):
        name, flag = (" ".join((division.findtext(tag) or "").split()) for tag in ("name", "flag"))
        if name and flag:
            yield name, flag


def _record(
    root: Path, name: str, flag: str, character: str | None, names: Mapping[str, Mapping[str, str]]
) -> Record | None:
    path = root / "flags" / flag
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise DataError(f"{flag}: lies outside the package")
        picture = small_picture(path, f"{_NAME}/{flag}")
    except (OSError, DataError):
        return None
    others = [
        Variant(Content(table[character]), language)
        for language, table in names.items()
        if language != "en" and character and character in table
    ]
    return Record(
        key=record_key(_NAME, flag),
        task="image_caption",
        source=_NAME,
        concept=concept(f"flag {name}"),
        queries=(Variant(Content(picture)),),
        positives=(Variant(Content(f"flag of {name}"), "en"), Variant(Content(name), "en"), *others),
        extra={"category": flag.split("/")[0] if "/" in flag else "countries", "style": "drawing"},
    )


SOURCE = Source(
    name=_NAME,
    packages=(_PACKAGE, CLDR_DERIVED),
    licence="GPL-2 or later (flags), Unicode-3.0 (CLDR names)",
    provenance="KGeography 22.12.3, as packed by Debian; npm cldr-annotations-derived-full 48.2.0",
    tiers=frozenset({"full"}),
    records=records,
)
