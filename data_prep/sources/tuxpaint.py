"""Tux Paint's stamps: photos and drawings, captions in many languages, spoken descriptions, and some sounds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import soundfile

from commonspace.content import Audio, Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.languages import ASKED_LANGUAGES, KNOWN_LANGUAGES, LANGUAGE_NAMES
from data_prep.pictures import encode_picture, open_picture
from data_prep.sketches import sketch_pairs, style_of
from data_prep.sounds import sound_record, usable_sounds
from data_prep.source import Package, Source
from data_prep.split import concept
from data_prep.svg import render_svg

_ROOT = "usr/share/tuxpaint/stamps"
_SIDE = 256  # a stamp is in some twenty records; at the model's 224 px a larger copy would only fill the disk
_CAPTION = re.compile(r"([A-Za-z_@]+)\.utf8=(.*)")
_SPOKEN = re.compile(r"(.+)_desc(?:_([A-Za-z_@]+))?$")
# Noises of a spinning top whose files are read-out letters, and what was said on the moon.
_SPOKEN_SOUNDS = ("seasonal/hanukkah/", "space/apollo_lander")
_FACES = "symbols/faces/"  # of all signs only they call out: "Happy!" is a whoop


@dataclass(frozen=True)
class Stamp:
    """One stamp: where it lies below the root, without ending, its captions by language, its picture and style."""

    name: str
    captions: dict[str, str]
    picture: Image
    style: Literal["drawing", "photo"] | None

    @property
    def concept(self) -> str:
        return concept(self.captions["en"])

    @property
    def is_symbol(self) -> bool:
        """Letters, coins and signs: filled and outlined letters share sounds and say the same in every language."""
        return self.name.startswith("symbols/")


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`image_caption`, `stamp_language`, `speech`, `sound` and `sketch` records, stamp by stamp, sketches last."""
    yield from usable_sounds(_records(folders["tuxpaint-stamps-default"] / _ROOT, drops), drops)


def _records(root: Path, drops: Counter) -> Iterator[Record]:
    sounds = find_sounds(root)
    heard: set[bytes] = set()
    captioned = []
    for path in sorted(root.rglob("*.txt")):
        name = path.relative_to(root).with_suffix("").as_posix()
        try:
            stamp = read_stamp(root, name)
        except DataError:
            drops["stamp without a readable picture or caption"] += 1
            continue
        captioned.append(_captioned(stamp, drops))
        yield captioned[-1]
        yield from _asked(stamp)
        yield from _audible(stamp, sounds.pop(loose_name(name), {}), heard, drops)
    yield from _without_stamp(sounds, drops)
    yield from sketch_pairs(captioned)


def read_captions(path: Path) -> dict[str, str]:
    """Captions by language. The first line is English; a translation that repeats the English is left out.

    Raises:
        DataError: no English line.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    english = lines[0].strip() if lines else ""
    if not re.search(r"\w", english):
        raise DataError(f"{path}: its first line holds no English caption; leave this stamp out")
    found = {"en": english}
    for line in lines[1:]:
        match = _CAPTION.fullmatch(line.strip())
        text = match[2].strip() if match else ""
        if match and re.search(r"\w", text) and text != english:
            found.setdefault(match[1], text)
    return found


def read_stamp(root: Path, name: str) -> Stamp:
    """The stamp of that name: its PNG where there is one, else its SVG, as WebP of at most 256 px.

    Raises:
        DataError: no caption, no picture, or one that cannot be read.
    """
    captions = read_captions(root / f"{name}.txt")
    raster, drawing = root / f"{name}.png", root / f"{name}.svg"
    if raster.exists():
        picture = open_picture(raster, name)
        style = "drawing" if "cartoon" in name or drawing.exists() else style_of(picture)
        data = encode_picture(picture, side=_SIDE, quality=88)
    elif drawing.exists():
        svg = drawing.read_bytes()
        style = None if b"<image" in svg else "drawing"
        data = render_svg(svg, name, side=_SIDE)
    else:
        raise DataError(f"{root / name}: neither .png nor .svg beside its caption; leave this stamp out")
    return Stamp(name, captions, Image(data, name=f"tuxpaint/{name}.webp"), style)


def find_sounds(root: Path) -> dict[str, dict[str, Path]]:
    """Sounds by stamp (see `loose_name`), then by language; "" is the thing itself. `x_desc.ogg` is spoken English."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted([*root.rglob("*.ogg"), *root.rglob("*.wav")]):
        base = path.name.split(".")[0]  # one file ends with .ogg.ogg
        spoken = _SPOKEN.fullmatch(base)
        stamp = path.parent.relative_to(root) / (spoken[1] if spoken else base)
        language = (spoken[2] or "en") if spoken else ""
        found.setdefault(loose_name(stamp.as_posix()), {}).setdefault(language, path)
    return found


def loose_name(name: str) -> str:
    """A stamp's name as recordings spell it: `gnu_baby_desc_fr.ogg` belongs to `gnu-baby.txt`."""
    return name.casefold().replace("-", "_")


def _captioned(stamp: Stamp, drops: Counter) -> Record:
    known = {language: text for language, text in stamp.captions.items() if language in KNOWN_LANGUAGES}
    drops["caption in a language the backbone never saw"] += len(stamp.captions) - len(known)
    return Record(
        key=record_key("tuxpaint", stamp.name),
        task="image_caption",
        source="tuxpaint",
        concept=stamp.concept,
        queries=(Variant(Content(stamp.picture)),),
        positives=tuple(Variant(Content(text), language) for language, text in known.items()),
        extra={"category": stamp.name.split("/")[0], "style": stamp.style},
    )


def _asked(stamp: Stamp) -> Iterator[Record]:
    """The stamp with a language's name -> its caption in that language."""
    for language in ASKED_LANGUAGES:
        if language in stamp.captions and not stamp.is_symbol:
            yield Record(
                key=record_key("tuxpaint", stamp.name, language),
                task="stamp_language",
                source="tuxpaint",
                concept=stamp.concept,
                queries=(Variant(Content(stamp.picture, LANGUAGE_NAMES[language]), "en"),),
                positives=(Variant(Content(stamp.captions[language]), language),),
                extra={"language": language},
            )


def _audible(stamp: Stamp, sounds: dict[str, Path], heard: set[bytes], drops: Counter) -> Iterator[Record]:
    for language, path in sounds.items():
        reason = _unusable(stamp, language, path, heard)
        if reason:
            drops[reason] += 1
            continue
        text = stamp.captions[language or "en"]
        yield Record(
            key=record_key("tuxpaint", stamp.name, language or "sound", "audio"),
            task="speech" if language else "sound",
            source="tuxpaint",
            concept=stamp.concept,
            queries=(Variant(Content(Audio(path, name=f"tuxpaint/{path.name}")), language or None),),
            positives=(Variant(Content(text), language or "en"),),
            extra={"language": language} if language else {"category": stamp.name.split("/")[0]},
        )


def _without_stamp(sounds: dict[str, dict[str, Path]], drops: Counter) -> Iterator[Record]:
    """Noises that their files name. What is spoken for no stamp has no text: a word, or a letter or number read out."""
    for stamp, found in sounds.items():
        for language, path in found.items():
            if language:
                drops["speech without a stamp"] += 1
            elif stamp.startswith("symbols/"):
                drops["letter or number read out for no stamp"] += 1
            else:
                name = path.stem.replace("_", " ")
                place = (*stamp.split("/")[:-1], path.name)
                yield sound_record("tuxpaint", place, path, name, concept(name), place[0])


def _unusable(stamp: Stamp, language: str, path: Path, heard: set[bytes]) -> str | None:
    kind = "speech" if language else "sound"
    if stamp.is_symbol and (language or not stamp.name.startswith(_FACES)):
        return f"{kind} of a letter, coin or sign"
    if not language and stamp.name.startswith(_SPOKEN_SOUNDS):
        return "sound that is speech"
    if language and language not in stamp.captions:
        return "speech without text in its language"
    try:
        if soundfile.info(path).frames == 0:
            return f"{kind} without samples"
    except soundfile.LibsndfileError:
        return f"{kind} that cannot be read"
    digest = blake2b(path.read_bytes(), digest_size=16).digest()
    if digest in heard:
        return f"byte-identical {kind}"
    heard.add(digest)
    return None


SOURCE = Source(
    name="tuxpaint",
    packages=(
        Package(
            client="apt",
            name="tuxpaint-stamps-default",
            version="2022.06.04-1",
            filename="tuxpaint-stamps-default_2022.06.04-1_all.deb",
            sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
            bytes=160880444,
        ),
    ),
    licence="GPL-2",
    provenance="Tux Paint stamps 2022.06.04, as packed by Debian",
    tiers=frozenset({"mini"}),
    records=records,
)
