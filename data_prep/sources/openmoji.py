"""OpenMoji: drawings of emoji and symbols, named in English by OpenMoji and in other languages by Unicode CLDR."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.split import emoji_concept
from data_prep.svg import render_svg

_NAME = "openmoji"
_SIDE = 288  # px of the page, of which an emoji fills about 224; the rest is trimmed
# Languages of the text backbone with over 1,000 names in CLDR, in many scripts and families.
_CODES = (
    "am ar bg bn ca cs da de el es fa fi fr gu he hi hr hu hy id it ja ka km kn ko lt lv ml mr ms my nl no pa pl pt ro "
    "ru sk sl sr sv sw ta te th tr uk ur vi zh"
)
LANGUAGES = tuple(_CODES.split())
_VARIATION_SELECTOR = "\ufe0f"  # asks for the coloured form; CLDR names the character without it

_PACKAGES = (
    Package(
        client="npm",
        name="openmoji",
        version="17.0.0",
        filename="openmoji-17.0.0.tgz",
        sha256="55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
        bytes=4339458,
    ),
    Package(
        client="npm",
        name="cldr-annotations-full",
        version="48.2.0",
        filename="cldr-annotations-full-48.2.0.tgz",
        sha256="28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1",
        bytes=6537823,
    ),
)


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """One row an emoji without skin tone: its drawing, and its name in English, with tags, and in other languages."""
    package = folders["openmoji"] / "package"
    names = _names(folders["cldr-annotations-full"])
    try:
        emojis = json.loads((package / "data/openmoji.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{_NAME}: {package} cannot be read ({error}); delete it and build again") from error
    for emoji in emojis:
        if emoji["skintone"]:
            drops["skin tone variant"] += 1
        elif emoji["group"] == "component":
            drops["part of other emoji"] += 1
        elif (record := _record(emoji, package, names, drops)) is not None:
            yield record


def _record(
    emoji: Mapping[str, Any], package: Path, names: Mapping[str, dict[str, str]], drops: Counter
) -> Record | None:
    code, title = emoji["hexcode"], emoji["annotation"]
    if emoji["group"].startswith("extras"):  # these are named like files: "spouting-orca"
        title = " ".join(title.replace("-", " ").replace("_", " ").split())
    path = package / f"color/svg/{code}.svg"
    try:
        drawing = render_svg(path.read_bytes(), path.name, side=_SIDE)
    except (OSError, DataError):
        drops["drawing cannot be rendered"] += 1
        return None
    return Record(
        key=record_key(_NAME, code),
        task="image_caption",
        source=_NAME,
        concept=emoji_concept(title),
        queries=(Variant(Content(Image(drawing, name=path.name))),),
        positives=(*_english(title, emoji), *_other_languages(emoji["emoji"], names)),
        extra={"emoji": emoji["emoji"], "group": emoji["group"], "style": "drawing"},
    )


def _english(title: str, emoji: Mapping[str, Any]) -> Iterator[Variant]:
    """The name alone, then the name with the tags that add a word to it."""
    yield Variant(Content(title), "en")
    tags = [tag.strip() for tag in f"{emoji['tags']},{emoji['openmoji_tags']}".split(",")]
    fresh = list(dict.fromkeys(tag for tag in tags if tag and tag.casefold() not in title.casefold()))
    if fresh:
        yield Variant(Content(f"{title}: {', '.join(fresh[:6])}"), "en")


def _other_languages(character: str, names: Mapping[str, dict[str, str]]) -> Iterator[Variant]:
    bare = character.replace(_VARIATION_SELECTOR, "")
    for language, table in names.items():
        if bare in table:
            yield Variant(Content(table[bare]), language)


def _names(folder: Path) -> dict[str, dict[str, str]]:
    """{language: {character: name}} out of CLDR; the name is what a screen reader says ("tts")."""
    found = {}
    for language in LANGUAGES:
        path = folder / f"package/annotations/{language}/annotations.json"
        try:
            table = json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{_NAME}: {path} cannot be read ({error}); delete {folder} and build again") from error
        found[language] = {character: entry["tts"][0] for character, entry in table.items() if entry.get("tts")}
    return found


SOURCE = Source(
    name=_NAME,
    packages=_PACKAGES,
    licence="CC-BY-SA-4.0 (drawings, English tags), Unicode-3.0 (CLDR names)",
    provenance="npm openmoji 17.0.0 by HfG Schwaebisch Gmuend and contributors; npm cldr-annotations-full 48.2.0",
    tiers=frozenset({"tiny", "mini"}),
    records=records,
)
