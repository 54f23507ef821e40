"""Material Line Icons: animated drawings sampled to short clips, so that the tiny tier has video."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyvips
from PIL import Image as PILImage

from commonspace.content import Content, Video
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.clips import encode_clip
from data_prep.keys import record_key
from data_prep.smil import sample_frames
from data_prep.source import Package, Source
from data_prep.split import concept

_NAME = "line-md"
_FRAMES = 8
_SIDE = 112  # px
_FRAME = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 24 24" \
width="{side}" height="{side}" color="#000">{body}</svg>'

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
    path = folders[_PACKAGE.name] / "package/icons.json"
    try:
        icons = json.loads(path.read_text(encoding="utf-8"))["icons"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{_NAME}: {path} cannot be read ({error}); delete its folder and build again") from error
    for name, icon in icons.items():
        if re.search(r"(^|-)(filled|twotone)(-|$)", name):
            drops["filled or two-tone look of another icon"] += 1
            continue
        try:
            clip, seconds = _clip(icon["body"])
        except DataError as error:
            drops[re.sub(r"'[^']*'", "", str(error)).strip()] += 1
            continue
        motion, caption, names = describe(name)
        yield Record(
            key=record_key(_NAME, name),
            task="video",
            source=_NAME,
            concept=concept(names),
            queries=(Variant(Content(Video(clip, name=name))),),
            positives=(Variant(Content(caption), "en"),),
            extra={"action": motion, "family": names, "seconds": round(seconds, 2), "has_sound": False},
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


def _clip(body: str) -> tuple[bytes, float]:
    """The animation as mp4 bytes, and its length in seconds."""
    frames, step = sample_frames(_FRAME.format(side=_SIDE, body=body.replace("currentColor", "#000")), _FRAMES)
    pictures = [_render(frame) for frame in frames]
    if all(picture.tobytes() == pictures[0].tobytes() for picture in pictures):
        raise DataError("nothing moves in it")
    return encode_clip(pictures, rate=1 / step), step * (_FRAMES - 1)


def _render(svg: bytes) -> PILImage.Image:
    try:
        image = pyvips.Image.svgload_buffer(svg).flatten(background=[255, 255, 255])
        return PILImage.open(io.BytesIO(image.pngsave_buffer(compression=1))).convert("RGB")
    except pyvips.Error as error:
        raise DataError("it cannot be rendered") from error


SOURCE = Source(
    name=_NAME,
    packages=(_PACKAGE,),
    licence="MIT",
    provenance="npm @iconify-json/line-md 1.2.16: Material Line Icons by Vjacheslav Trushkin",
    tiers=frozenset({"tiny"}),
    records=records,
)
