"""An animated icon of an Iconify set -> a small clip, as both sets of them need it."""

from __future__ import annotations

import io

import pyvips
from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.clips import encode_clip
from data_prep.smil import sample_frames

_FRAMES = 8
_SIDE = 112  # px
_FRAME = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {box} {box}" \
width="{side}" height="{side}" color="#000">{body}</svg>'


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
