"""Material Line Icons: animated drawings sampled to short clips, so that the tiny tier has video."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content, Video
from commonspace.data.sample import Record, Variant
from data_prep.icon_clips import clips_of, icons_of
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.split import concept

_NAME = "line-md"
_BOX = 24  # side of an icon in its own units

_PACKAGE = Package(
    client="npm",
    name="@iconify-json/line-md",
    version="1.2.16",
    filename="iconify-json-line-md-1.2.16.tgz",
    sha256="fb5da2c222f7d77305c2aae0d9a26444b33a4f7601cdfb109b731c1b2e6243af",
    bytes=157168,
)


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """One row an icon: a clip of how it is drawn, moves or turns into another, and a sentence that says so."""
    icons = icons_of(folders[_PACKAGE.name], _NAME)
    looks = {name for name in icons if re.search(r"(^|-)(filled|twotone)(-|$)", name)}
    if looks:
        drops["filled or two-tone look of another icon"] += len(looks)
    for name, clip, seconds in clips_of({name: icons[name] for name in icons if name not in looks}, _BOX, drops):
        motion, caption, names = describe(name)
        yield Record(
            key=record_key(_NAME, name),
            task="video",
            source=_NAME,
            concept=concept(names),
            queries=(Variant(Content(Video(clip, name=name))),),
            positives=(Variant(Content(caption), "en"),),
            extra={"action": motion, "family": names, "seconds": seconds, "has_sound": False},
        )


def describe(name: str) -> tuple[str, str, str]:
    """(kind of motion, caption, what is shown) from an icon's name, as in "bell-loop" or "menu-to-close-transition"."""
    if name.endswith("-transition") and "-to-" in name:
        one, other = (_words(part) for part in name.removesuffix("-transition").split("-to-", 1))
        return "turn", f"{_icon(one)} turning into {_icon(other)}", f"{one} to {other}"
    if name.endswith("-loop"):
        words = _words(name)
        return "move", f"{_icon(words)} being drawn, then moving on and on", words
    return "draw", f"{_icon(_words(name))} being drawn", _words(name)


def _icon(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words} icon"


def _words(name: str) -> str:
    return re.sub(r"-loop\b", "", name).replace("-", " ")


SOURCE = Source(
    name=_NAME,
    packages=(_PACKAGE,),
    licence="MIT",
    provenance="npm @iconify-json/line-md 1.2.16: Material Line Icons by Vjacheslav Trushkin",
    tiers=frozenset({"tiny"}),
    records=records,
)
