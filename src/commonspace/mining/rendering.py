"""Contents as people and models of Hugging Face's see them: runs of texts and pictures."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from PIL import Image as pil

from commonspace.content import Audio, Content, Document, Image, Text, Video
from commonspace.errors import ContentError
from commonspace.processing.document import open_documents
from commonspace.processing.image import read_image
from commonspace.processing.pdf import Page, draw_page, page_text
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.video import read_frames

Shown = str | pil.Image
SIDE = 768  # pixels of a picture's longer side, at most
FRAMES = 4  # of a clip


def words_and_pictures(content: Content, side: int = SIDE, frames: int = FRAMES) -> list[Shown]:
    """The texts and pictures of a content in order: images, frames of clips, pages of PDFs.

    Of documents and clips as much as a model's default limits let in. Raises ContentError for a sound, and for what
    cannot be read.
    """
    numbers = Preprocessing(video_min_frames=frames, video_max_frames=frames)
    return list(_shown(content, side, numbers))


def texts_alone(content: Content) -> str:
    """All texts of a content, those of documents too. Raises ContentError where it holds anything else."""
    texts = []
    for part in content.parts:
        for inner in part.parts if isinstance(part, Document) else (part,):
            if not isinstance(inner, Text):
                raise ContentError(f"{inner.label}: is no text, which is all that this teacher reads")
            texts.append(inner.text)
    return "\n".join(texts)


def _shown(content: Content, side: int, numbers: Preprocessing) -> Iterator[Shown]:
    parts, _ = open_documents(content, numbers, cut=True)
    for part in parts:
        for inner in getattr(part, "inner", (part,)):
            if isinstance(inner, Text):
                yield inner.text
            elif isinstance(inner, Image):
                yield picture_of(inner, side, numbers)
            elif isinstance(inner, Page):
                yield draw_page(inner, side, numbers.image_max_pixels)
                if inner.pdf.text:
                    yield page_text(inner)
            elif isinstance(inner, Video):
                pixels, _ = read_frames(inner, numbers, cut=True, fit=lambda frame: _pixels(frame, side))
                yield from (_drawn(frame) for frame in pixels)
            elif isinstance(inner, Audio):
                raise ContentError(f"{inner.label}: is a sound, which shows nothing")


def picture_of(part: Image, side: int, numbers: Preprocessing) -> pil.Image:
    """An image as RGB, upright, on white, its longer side of at most `side` pixels."""
    return _drawn(read_image(part, side, numbers.image_max_pixels, lambda picture: _pixels(picture, side)))


def _pixels(picture: pil.Image, side: int) -> torch.Tensor:
    """uint8 [3, H, W] of at most `side` pixels a side."""
    small = picture.copy()
    small.thumbnail((side, side))
    data = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8)
    return data.view(small.height, small.width, 3).permute(2, 0, 1)


def _drawn(pixels_3HW: torch.Tensor) -> pil.Image:
    return pil.fromarray(pixels_3HW.permute(1, 2, 0).contiguous().numpy())
