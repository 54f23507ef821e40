"""Pairs of a drawing and a photo of one concept: the rows of the `sketch` task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image as PILImage

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from data_prep.keys import record_key

MAX_PAIRS = 6  # per concept: the six flowers would otherwise give thirty rows of one word
# Share of neighbouring pixels with one colour. Measured on tuxpaint: 95% of its cartoon folder lies above .21, its
# photos below .13 (sensor noise and JPEG); between the two lie shaded drawings, scans and collages.
DRAWN_FROM = 0.45
PHOTO_BELOW = 0.1


def flatness(picture: PILImage.Image) -> float:
    """Share of horizontal neighbours, both opaque, that have exactly one colour; 0 where nothing is opaque."""
    values = np.asarray(picture.convert("RGBA"))
    opaque = values[..., 3] > 128
    both = opaque[:, 1:] & opaque[:, :-1]
    same = (values[:, 1:, :3] == values[:, :-1, :3]).all(axis=-1) & both
    return float(same.sum() / both.sum()) if both.any() else 0.0


def style_of(picture: PILImage.Image) -> str | None:
    """ "drawing", "photo", or None where the colours do not tell."""
    flat = flatness(picture)
    return "drawing" if flat >= DRAWN_FROM else "photo" if flat < PHOTO_BELOW else None


def sketch_pairs(captioned: Iterable[Record], across: bool = False) -> Iterator[Record]:
    """`sketch` records, drawing -> photo, from `image_caption` records whose `extra["style"]` says which they are.

    With `across` only pairs of two sources: each source already makes its own.
    """
    drawings: dict[str, list[Record]] = defaultdict(list)
    photos: dict[str, list[Record]] = defaultdict(list)
    for record in captioned:
        side = {"drawing": drawings, "photo": photos}.get(record.extra.get("style"))
        if side is not None and record.task == "image_caption":
            side[record.concept].append(record)
    for concept in sorted(drawings.keys() & photos.keys()):
        pairs = [
            (drawing, photo)
            for drawing in drawings[concept]
            for photo in photos[concept]
            if (drawing.source != photo.source) == across
        ]
        for drawing, photo in pairs[:MAX_PAIRS]:
            yield _pair(drawing, photo)


def _pair(drawing: Record, photo: Record) -> Record:
    return Record(
        key=record_key("sketch", drawing.key, photo.key),
        task="sketch",
        source=photo.source,
        concept=photo.concept,
        queries=(Variant(Content(_picture(drawing))),),
        positives=(Variant(Content(_picture(photo))),),
        extra={"drawing": drawing.key, "photo": photo.key, "drawing_source": drawing.source},
    )


def _picture(record: Record) -> Image:
    return next(part for part in record.queries[0].content.parts if isinstance(part, Image))
