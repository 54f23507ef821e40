from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.pictures import KEEP_SIDE, SMALL_SIDE, encode_picture, open_picture, small_picture


def _encoded(size: tuple[int, int], kind: str = "PNG", mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    PILImage.new(mode, size, "red").save(buffer, kind)
    return buffer.getvalue()


def _bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header announces that many pixels."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_small_pictures_travel_untouched(tmp_path: Path) -> None:
    path = tmp_path / "small.png"
    path.write_bytes(_encoded((KEEP_SIDE, 20)))
    assert small_picture(path, "small").source == path
    data = _encoded((30, 30), "WEBP")
    assert small_picture(data, "small").source is data


@pytest.mark.parametrize(("size", "kind"), [((KEEP_SIDE + 1, 40), "PNG"), ((30, 30), "BMP"), ((30, 30), "GIF")])
def test_large_and_rare_pictures_are_encoded_anew(size: tuple[int, int], kind: str) -> None:
    image = small_picture(_encoded(size, kind), "large")
    made = PILImage.open(io.BytesIO(image.read_bytes()))
    assert made.format == "WEBP"
    assert max(made.size) <= SMALL_SIDE


def test_alpha_is_kept() -> None:
    picture = PILImage.new("RGBA", (600, 600), (255, 0, 0, 0))
    assert PILImage.open(io.BytesIO(encode_picture(picture))).convert("RGBA").getpixel((5, 5))[3] == 0


@pytest.mark.parametrize("size", [(30_000, 30_000), (2_000_000, 30)])
def test_a_bomb_is_refused_before_it_is_unpacked(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"bomb\.png"):
        open_picture(_bomb(*size), "bomb.png")


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"hello", _encoded((64, 64), "JPEG")[:200], _encoded((3, 90))])
def test_broken_and_tiny_pictures_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(DataError, match=r"x\.png"):
        open_picture(data, "x.png")


def test_a_wrong_ending_does_not_matter_and_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "jpeg.png").write_bytes(_encoded((30, 30), "JPEG"))
    assert open_picture(tmp_path / "jpeg.png", "jpeg.png").format == "JPEG"
    with pytest.raises(DataError, match=r"none\.png"):
        open_picture(tmp_path / "none.png", "none.png")
