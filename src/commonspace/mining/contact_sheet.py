"""Examples as one picture: a row each, its query, its positive and its negatives; sounds as their spectra."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image as pil
from PIL import ImageDraw, ImageFont

from commonspace.content import Audio, Content, Document, Part, Text
from commonspace.errors import ContentError
from commonspace.mining.rendering import Shown, words_and_pictures
from commonspace.processing.audio import read_audio
from commonspace.processing.preprocessing import Preprocessing

_CELL, _BORDER, _LINE = 150, 3, 12  # px
_MOST = 8  # contents in a row
_COLOURS = {"query": "#444444", "positive": "#009e73", "negative": "#d1001f"}


@dataclass(frozen=True)
class Example:
    """A query with what it was given; `scores` and each teacher's begin with the positive's."""

    key: str
    concept: str
    query: Content
    positive: Content
    negatives: list[Content]
    concepts: list[str]
    scores: list[float]
    ranks: list[int]
    teacher_scores: list[list[float]] = field(default_factory=list)

    def told(self, place: int) -> str:
        """The scores of the positive (0) or a negative (from 1), teachers' in brackets."""
        others = ", ".join(f"{scores[place]:.3f}" for scores in self.teacher_scores)
        return f"{self.scores[place]:.3f}" + (f" [{others}]" if others else "")


def contact_sheet(examples: Sequence[Example]) -> bytes | None:
    """A PNG with a row an example; None where there is nothing but text."""
    contents = [content for one in examples for content in (one.query, one.positive, *one.negatives)]
    if all(content.is_text for content in contents):
        return None
    columns = min(_MOST, 2 + max(len(one.negatives) for one in examples))
    sheet = pil.new("RGB", (columns * _CELL, len(examples) * (_CELL + _LINE)), "white")
    for row, one in enumerate(examples):
        cells = [("query", one.query, one.key), ("positive", one.positive, one.told(0))]
        cells += [("negative", content, one.told(place + 1)) for place, content in enumerate(one.negatives)]
        for column, (kind, content, words) in enumerate(cells[:columns]):
            sheet.paste(_cell(content, _COLOURS[kind], words), (column * _CELL, row * (_CELL + _LINE)))
    buffer = io.BytesIO()
    sheet.quantize(256, dither=pil.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _cell(content: Content, colour: str, words: str) -> pil.Image:
    cell = pil.new("RGB", (_CELL, _CELL + _LINE), "white")
    pen = ImageDraw.Draw(cell)
    pen.rectangle((1, 1, _CELL - 2, _CELL - 2), outline=colour, width=_BORDER)
    inside = _CELL - 4 * _BORDER
    shown = [piece for part in content.parts for piece in _seen(part, inside)]
    pictures = [piece for piece in shown if isinstance(piece, pil.Image)][:4]
    text = " ".join(" ".join(piece for piece in shown if isinstance(piece, str)).split())
    height = 0 if not pictures else inside * 2 // 3 if text else inside
    for place, picture in enumerate(pictures):
        side = (inside, height) if len(pictures) == 1 else (inside // 2, height // 2)
        picture.thumbnail(side)
        middle = (side[0] - picture.width) // 2
        cell.paste(picture, (2 * _BORDER + place % 2 * side[0] + middle, 2 * _BORDER + place // 2 * side[1]))
    size = 10 if pictures else 13
    lines = textwrap.wrap(text, inside * 5 // (size * 3))[: (inside - height) // (size + 2)]
    pen.multiline_text((2 * _BORDER, 2 * _BORDER + height), "\n".join(lines), "black", font=_font(size), spacing=1)
    pen.text((_BORDER, _CELL - 1), words[: _CELL // 6], colour, font=_font(10))
    return cell


def _seen(part: Part, side: int) -> list[Shown]:
    """A part as texts and pictures; what cannot be read says so."""
    try:
        return [_spectrum(part)] if isinstance(part, Audio) else words_and_pictures(Content(_first(part)), side)
    except ContentError as error:
        return [f"({error})"]


def _first(part: Part) -> Part:
    """Of a document as much as a cell shows."""
    if not isinstance(part, Document):
        return part
    texts = [inner for inner in part.parts if isinstance(inner, Text)]
    return Document(*[inner for inner in part.parts if not isinstance(inner, Text)][:4], *texts[:3])


def _spectrum(part: Audio) -> pil.Image:
    """The log-mel frames of a sound's beginning, low pitches below, from its quietest to its loudest."""
    mel_MT, _ = read_audio(part, Preprocessing(), cut=True)
    values = mel_MT[:, :400].flip(0).numpy()
    span = float(np.ptp(values)) or 1.0
    coloured = matplotlib.colormaps["magma"]((values - values.min()) / span)[..., :3]
    picture = pil.fromarray((coloured * 255).astype(np.uint8))
    return picture.resize((_CELL, _CELL * 2 // 3))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings: Latin, Greek and Cyrillic; other scripts show as boxes."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
