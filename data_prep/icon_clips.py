"""An animated icon of an Iconify set -> a small clip, as both sets of them need it."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyvips
from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.clips import encode_clip
from data_prep.smil import sample_frames

_FRAMES = 8
_SIDE = 112  # px
_FRAME = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {box} {box}" \
width="{side}" height="{side}" color="#000">{body}</svg>'


def icons_of(folder: Path, source: str) -> dict[str, str]:
    """{name: drawing} of an unpacked package; raises DataError where it cannot be read."""
    path = folder / "package/icons.json"
    try:
        icons = json.loads(path.read_text(encoding="utf-8"))["icons"]
        return {name: icon["body"] for name, icon in icons.items()}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{source}: {path} cannot be read ({error}); delete its folder and build again") from error


def clips_of(icons: dict[str, str], box: int, drops: Counter) -> Iterator[tuple[str, bytes, float]]:
    """Name, mp4 bytes and seconds of each icon; `drops` counts why others have no clip."""
    for name, body in icons.items():
        try:
            clip, seconds = icon_clip(body, box)
        except DataError as error:
            drops[" ".join(re.sub(r"'[^']*'", "", str(error)).split())] += 1
            continue
        yield name, clip, round(seconds, 2)


def icon_clip(body: str, box: int) -> tuple[bytes, float]:
    """The animation as mp4 bytes, and its length in seconds; `box` is the side of the icon in its own units.

    Raises:
        DataError: it is not animated, uses what is not covered, cannot be rendered, or nothing moves in it.
    """
    svg = _FRAME.format(box=box, side=_SIDE, body=body.replace("currentColor", "#000"))
    frames, step = sample_frames(svg, _FRAMES)
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
