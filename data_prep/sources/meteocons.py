"""Meteocons: animated weather icons sampled to short clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content, Video
from commonspace.data.sample import Record, Variant
from data_prep.icon_clips import clips_of, icons_of
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.split import concept

_NAME = "meteocons"
_BOX = 512  # side of an icon in its own units

_PACKAGE = Package(
    client="npm",
    name="@iconify-json/meteocons",
    version="1.2.4",
    filename="iconify-json-meteocons-1.2.4.tgz",
    sha256="1c0b49c6375c0e35c3ed65db6e41e9811a0cbd2368c13ee27f870f60c6185ff0",
    bytes=80727,
)


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`video` records of the outlined icons; the filled look of one is the same motion, so it shares the concept."""
    icons = icons_of(folders[_PACKAGE.name], _NAME)
    for name, clip, seconds in clips_of(icons, _BOX, drops):
        filled = name.endswith("-fill")
        words = name.removesuffix("-fill").replace("-", " ")
        yield Record(
            key=record_key(_NAME, name),
            task="video",
            source=_NAME,
            concept=concept(f"weather {words}"),
            queries=(Variant(Content(Video(clip, name=f"{_NAME}/{name}.mp4"))),),
            positives=(
                Variant(Content(f"a moving weather icon, {'filled' if filled else 'outlined'}: {words}"), "en"),
            ),
            extra={"icon": words, "seconds": seconds, "has_sound": False},
        )


SOURCE = Source(
    name=_NAME,
    packages=(_PACKAGE,),
    licence="MIT",
    provenance="npm @iconify-json/meteocons 1.2.4: Meteocons by Bas Milius",
    tiers=frozenset({"full"}),
    records=records,
)
