"""Meteocons: animated weather icons sampled to short clips."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content, Video
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.icon_clips import icon_clip
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
    path = folders[_PACKAGE.name] / "package/icons.json"
    try:
        icons = json.loads(path.read_text(encoding="utf-8"))["icons"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{_NAME}: {path} cannot be read ({error}); delete its folder and build again") from error
    for name, icon in icons.items():
        try:
            clip, seconds = icon_clip(icon["body"], _BOX)
        except DataError as error:
            drops[" ".join(re.sub(r"'[^']*'", "", str(error)).split())] += 1
            continue
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
            extra={"icon": words, "seconds": round(seconds, 2), "has_sound": False},
        )


SOURCE = Source(
    name=_NAME,
    packages=(_PACKAGE,),
    licence="MIT",
    provenance="npm @iconify-json/meteocons 1.2.4: Meteocons by Bas Milius",
    tiers=frozenset({"full"}),
    records=records,
)
