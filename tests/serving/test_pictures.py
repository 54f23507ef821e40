"""Thumbnails show what a content holds; a sheet has its rows and captions."""

from __future__ import annotations

import numpy as np
import pytest

from commonspace import Audio, Content, Document, Image, Video
from commonspace.errors import ContentError
from commonspace.serving.pictures import sheet, sheet_figure, thumbnail
from tests.media import numbered_frames, tone

RED = Image(np.full((20, 20, 3), (200, 0, 0), dtype=np.uint8))


def pixels(content: Content, size: int = 64) -> np.ndarray:
    return np.asarray(thumbnail(content, size)).astype(int)


def test_an_image_is_its_pixels() -> None:
    assert pixels(Content(RED)).shape == (64, 64, 3)
    assert (pixels(Content(RED)) == (200, 0, 0)).all()


def test_of_a_clip_the_middle_frame_is_shown() -> None:
    clip = Video(numbered_frames(5, 32, 32), fps=5.0)
    assert abs(pixels(Content(clip)).mean() - 4 * 2) < 2


def test_texts_are_written_and_sounds_drawn() -> None:
    dark = {text: (pixels(Content(text), 160) < 128).sum() for text in ("a", "a red fox in the snow", "a " * 900)}
    assert 0 < dark["a"] < dark["a red fox in the snow"] < dark["a " * 900]
    low, high = (pixels(Content(Audio(tone(0.5, hertz=hertz), rate=16_000))).mean((1, 2)) for hertz in (300, 5000))
    assert low.argmax() > high.argmax(), "high tones stand high"


def test_parts_stand_side_by_side_up_to_three() -> None:
    content = Content("fox", Document(RED, "snow"), RED, RED)
    picture = pixels(content)
    assert picture.shape == (64, 192, 3)
    assert (picture[:, 64:128] == (200, 0, 0)).all() and not (picture[:, 128:] == (200, 0, 0)).all()


def test_a_sheet_has_a_row_a_question() -> None:
    figure = sheet_figure(
        [("a fox?", [(Content(RED), "one"), (Content("fox"), "two")]), ("a bird?", [(Content(RED), "three")])]
    )
    assert [part.get_suptitle() for part in figure.subfigs] == ["a fox?", "a bird?"]
    assert [axis.get_title() for axis in figure.axes] == ["one", "two", "three", ""]
    red = np.all(np.asarray(sheet([("a fox?", [(Content(RED), "one")])]).convert("RGB")) == (200, 0, 0), axis=-1)
    assert red.mean() > 0.2


def test_what_cannot_be_read_is_named() -> None:
    with pytest.raises(ContentError, match="broken.png"):
        thumbnail(Content(Image(b"no picture", name="broken.png")))
