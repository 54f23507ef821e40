"""Contents as small pictures, for people who look at results: a sheet has a row of them for each question."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image as pil
from PIL import ImageDraw, ImageFont

from commonspace.content import Audio, Content, Document, Image, Pdf, Text, Video
from commonspace.evaluation.plots import png
from commonspace.processing.audio import read_audio
from commonspace.processing.image import read_image
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.video import read_frames

Shown = tuple[Content, str]  # a content and what stands below it
_MOST = 3  # parts that are shown of one content
_TEXT = 13  # pixels of a letter


def thumbnail(content: Content, size: int = 160) -> pil.Image:
    """The parts of a content side by side, at most three, each `size` pixels a side.

    A text is written, of a clip the middle frame stands for it, of a sound its spectrogram. Raises ContentError for
    what cannot be read.
    """
    parts = [inner for part in content.parts for inner in (part.parts if isinstance(part, Document) else (part,))]
    tiles = [_tile(part, size) for part in parts[:_MOST]]
    whole = pil.new("RGB", (size * len(tiles), size), "white")
    for place, tile in enumerate(tiles):
        whole.paste(tile, (place * size, 0))
    return whole


def sheet(rows: Sequence[tuple[str, Sequence[Shown]]], size: int = 160) -> pil.Image:
    """One picture with a row of thumbnails under each title, their captions below them; notebooks display it."""
    return pil.open(io.BytesIO(png(sheet_figure(rows, size), colours=None)))


def sheet_figure(rows: Sequence[tuple[str, Sequence[Shown]]], size: int = 160) -> Figure:
    """The same as a figure of matplotlib, to be changed or saved in another form."""
    wide = max((len(shown) for _, shown in rows), default=1)
    with matplotlib.rc_context({"font.size": 8, "axes.titlesize": 8}):
        figure = Figure(figsize=(1.9 * wide, 2.3 * len(rows)), layout="constrained")
        for part, (title, shown) in zip(np.atleast_1d(figure.subfigures(len(rows), 1)), rows, strict=True):
            part.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=9)
            axes = part.subplots(1, wide, squeeze=False)[0]
            for axis in axes:
                axis.set_axis_off()
            for axis, (content, caption) in zip(axes, shown, strict=False):
                axis.imshow(np.asarray(thumbnail(content, size)))
                axis.set_title("\n".join(textwrap.wrap(caption, 28)[:2]), y=-0.28)
    return figure


def _tile(part: Text | Image | Audio | Video | Pdf, size: int) -> pil.Image:
    numbers = Preprocessing(image_size=size)
    if isinstance(part, Text):
        return _written(part.text, size)
    if isinstance(part, Image):
        return _pixels(read_image(part, size, numbers.image_max_pixels))
    if isinstance(part, Video):
        frames_F3HW, _ = read_frames(part, numbers, cut=True)
        return _pixels(frames_F3HW[len(frames_F3HW) // 2])
    if isinstance(part, Audio):
        mel_MT, _ = read_audio(part, numbers, cut=True)
        low, high = float(mel_MT.min()), float(mel_MT.max())
        grey = ((mel_MT.flip(0) - low) / max(high - low, 1e-6) * 255).numpy().astype(np.uint8)
        return pil.fromarray(grey).resize((size, size)).convert("RGB")
    return _written(f"PDF {part.label}", size)


def _pixels(pixels_3HW: object) -> pil.Image:
    return pil.fromarray(np.moveaxis(np.asarray(pixels_3HW), 0, -1))


def _written(text: str, size: int) -> pil.Image:
    """The beginning of a text, as much as there is room for."""
    tile = pil.new("RGB", (size, size), "#f7f5ee")
    font = ImageFont.truetype(findfont("DejaVu Sans"), _TEXT)
    lines = textwrap.wrap(text, max(1, int(1.6 * size / _TEXT)), max_lines=max(1, size // (_TEXT + 5)))
    ImageDraw.Draw(tile).multiline_text((5, 5), "\n".join(lines), fill="#222222", font=font)
    return tile
