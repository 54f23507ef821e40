"""OpenMoji's drawings of people in each skin tone, named in English and, by Unicode CLDR, in other languages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.sources import openmoji
from data_prep.split import emoji_concept
from data_prep.svg import render_svg

_NAME = "openmoji-variants"
_SIDE = 224  # px
_VARIATION_SELECTOR = "\ufe0f"

CLDR_DERIVED = Package(
    client="npm",
    name="cldr-annotations-derived-full",
    version="48.2.0",
    filename="cldr-annotations-derived-full-48.2.0.tgz",
    sha256="4be946ff5815f806ec78b50363d577a769f2fbfb90c6380a44e161a92436996e",
    bytes=4233628,
)


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`image_caption` records. The concept has neither tone nor gender, so all variants of one lie on one side."""
    package = folders["openmoji"] / "package"
    names = derived_names(folders[CLDR_DERIVED.name])
    try:
        emojis = json.loads((package / "data/openmoji.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{_NAME}: {package} cannot be read ({error}); delete it and build again") from error
    for emoji in (emoji for emoji in emojis if emoji["skintone"]):
        path = package / f"color/svg/{emoji['hexcode']}.svg"
        try:
            drawing = render_svg(path.read_bytes(), path.name, side=_SIDE)
        except (OSError, DataError):
            drops["drawing cannot be rendered"] += 1
            continue
        bare = emoji["emoji"].replace(_VARIATION_SELECTOR, "")
        others = [
            Variant(Content(table[bare]), code) for code, table in names.items() if code != "en" and bare in table
        ]
        yield Record(
            key=record_key(_NAME, emoji["hexcode"]),
            task="image_caption",
            source=_NAME,
            concept=emoji_concept(emoji["annotation"]),
            queries=(Variant(Content(Image(drawing, name=path.name))),),
            positives=(Variant(Content(emoji["annotation"]), "en"), *others),
            extra={"group": emoji["group"], "style": "drawing", "category": emoji["subgroups"]},
        )


def derived_names(folder: Path) -> dict[str, dict[str, str]]:
    """{language: {emoji of several characters, without variation selectors: its name}}; English first.

    Raises:
        DataError: a language is missing or broken.
    """
    found = {}
    for language in ("en", *openmoji.LANGUAGES):
        path = folder / f"package/annotationsDerived/{language}/annotations.json"
        try:
            table = json.loads(path.read_text(encoding="utf-8"))["annotationsDerived"]["annotations"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{_NAME}: {path} cannot be read ({error}); delete {folder} and build again") from error
        found[language] = {
            character.replace(_VARIATION_SELECTOR, ""): entry["tts"][0]
            for character, entry in table.items()
            if entry.get("tts")
        }
    return found


SOURCE = Source(
    name=_NAME,
    packages=(openmoji.SOURCES[0].packages[0], CLDR_DERIVED),
    licence=openmoji.SOURCES[0].licence,
    provenance="npm openmoji 17.0.0 and cldr-annotations-derived-full 48.2.0",
    tiers=frozenset({"full"}),
    records=records,
)
