"""OpenMoji: drawings of emoji and symbols, named in English by OpenMoji and in other languages by Unicode CLDR.

What a drawing is called in a language that is asked for is a source of its own, `openmoji-languages`, which the tiny
tier does without.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.languages import ASKED_LANGUAGES, LANGUAGE_NAMES
from data_prep.source import Package, Reader, Source
from data_prep.split import emoji_concept, split_of
from data_prep.svg import render_svg

_NAME = "openmoji"
_LANGUAGES_NAME = "openmoji-languages"
_SIDE = 288  # px of the page, of which an emoji fills about 224; the rest is trimmed
# Languages of the text backbone with over 1,000 names in CLDR, in many scripts and families.
_CODES = (
    "am ar bg bn ca cs da de el es fa fi fr gu he hi hr hu hy id it ja ka km kn ko lt lv ml mr ms my nl no pa pl pt ro "
    "ru sk sl sr sv sw ta te th tr uk ur vi zh"
)
LANGUAGES = tuple(_CODES.split())
_ASKED, _ASKED_HELDOUT = 6, 10  # languages a drawing; more where intervals are to tell models apart
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


def asked_records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`emoji_language` rows: a drawing with a language's name, and what CLDR calls it in that language."""
    for captioned in records(folders, drops):
        yield from _asked(captioned)


def _asked(captioned: Record) -> Iterator[Record]:
    """A few languages of each drawing. A name that is the English one again would ask for no language."""
    english = _text(captioned.positives[0])
    names = {name.language: name for name in captioned.positives if _text(name) != english}
    most = _ASKED_HELDOUT if split_of(captioned.concept) == "heldout" else _ASKED
    for language in [code for code in _languages_of(captioned.concept) if code in names][:most]:
        yield Record(
            key=f"{captioned.key.replace(_NAME, _LANGUAGES_NAME, 1)}-{language}",
            task="emoji_language",
            source=_LANGUAGES_NAME,
            concept=captioned.concept,
            queries=(Variant(Content(*captioned.queries[0].content.parts, LANGUAGE_NAMES[language]), "en"),),
            positives=(names[language],),
            extra={"language": language},
        )


def _text(name: Variant) -> str:
    return name.content.parts[0].text.casefold()


def _languages_of(concept: str) -> list[str]:
    """The languages to ask for, in an order that each concept has of its own, so that each comes about as often."""
    return sorted(ASKED_LANGUAGES, key=lambda code: blake2b(f"{concept}/{code}".encode(), digest_size=8).digest())


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


def _source(name: str, tiers: set[str], reader: Reader) -> Source:
    return Source(
        name=name,
        packages=_PACKAGES,
        licence="CC-BY-SA-4.0 (drawings, English tags), Unicode-3.0 (CLDR names)",
        provenance="npm openmoji 17.0.0 by HfG Schwaebisch Gmuend and contributors; npm cldr-annotations-full 48.2.0",
        tiers=frozenset(tiers),
        records=reader,
    )


SOURCES = (
    _source(_NAME, {"tiny", "mini"}, records),
    _source(_LANGUAGES_NAME, {"mini"}, asked_records),
)
