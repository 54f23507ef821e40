from __future__ import annotations

import io

import pytest
from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.paintings import assemble_painting

_COLOURS = {"a.webp": "red", "b.webp": "lime", "c.webp": "blue", "d.webp": "black"}
_PLACES = {"a.webp": (0.25, 0.25), "b.webp": (0.75, 0.25), "c.webp": (0.25, 0.75), "d.webp": (0.75, 0.75)}
_SIZE = {"pixmapfile": "bg.svg", "type": "x", "width": "100", "height": "100"}


def _tile(name: str) -> bytes:
    buffer = io.BytesIO()
    PILImage.new("RGB", (50, 50), _COLOURS[name]).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def _board(**places: tuple[float, float]) -> list[dict[str, str]]:
    return [_SIZE] + [{"pixmapfile": name, "x": str(x), "y": str(y)} for name, (x, y) in places.items()]


def test_tiles_find_their_places_whatever_their_order() -> None:
    for board in (_board(**_PLACES), [_SIZE, *reversed(_board(**_PLACES)[1:])]):
        picture = PILImage.open(io.BytesIO(assemble_painting(board, _tile))).convert("RGB")
        assert picture.size == (100, 100)
        for name, (x, y) in _PLACES.items():
            found = picture.getpixel((int(100 * x), int(100 * y)))
            wanted = PILImage.new("RGB", (1, 1), _COLOURS[name]).getpixel((0, 0))
            assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) < 40


def test_the_canvas_is_what_the_tiles_cover() -> None:
    board = _board(**{"a.webp": (0.1, 0.5), "b.webp": (0.6, 0.5)})  # the first reaches over the left edge
    assert PILImage.open(io.BytesIO(assemble_painting(board, _tile))).size == (100, 50)


@pytest.mark.parametrize(
    "board",
    [
        [],
        [_SIZE],
        _board(**{"a.webp": (0.1, 0.1), "b.webp": (9000.0, 0.1)}),
        [{**_SIZE, "width": "1e9"}, *_board(**_PLACES)[1:]],
    ],
)
def test_boards_that_make_no_painting_are_refused(board: list[dict[str, str]]) -> None:
    with pytest.raises(DataError):
        assemble_painting(board, _tile)
