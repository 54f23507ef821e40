from __future__ import annotations

import io
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as pil

from commonspace.content import Image
from commonspace.errors import ContentError
from commonspace.processing.image import fit_patches, grid_of, read_image
from tests.media import picture_bytes

SIZE, MOST = 32, 1_000_000


def read(source, name: str | None = "some.png") -> torch.Tensor:
    return read_image(Image(source, name=name), SIZE, MOST)


def colour(pixels: torch.Tensor, row: int = SIZE // 2, column: int = SIZE // 2) -> list[int]:
    return pixels[:, row, column].tolist()


def test_aspect_is_kept_by_white_padding():
    pixels = read(picture_bytes(np.zeros((20, 40, 3), np.uint8)))
    assert pixels.shape == (3, SIZE, SIZE) and pixels.dtype == torch.uint8
    assert (pixels[:, :8] == 255).all() and (pixels[:, 24:] == 255).all() and (pixels[:, 8:24] == 0).all()


@pytest.mark.parametrize("most", [1, 9, 49, 196, 256])
def test_patches_of_native_aspects_stand_as_in_timm(most: int):
    from timm.data.naflex_transforms import get_image_size_for_seq

    random = np.random.default_rng(most)
    for height, width in [(1, 300), (300, 1), (64, 64), *random.integers(20, 2000, (60, 2)).tolist()]:
        _, (high, wide) = get_image_size_for_seq((height, width), 16, most)
        assert grid_of(height, width, most) == (high // 16, wide // 16), (height, width)


@pytest.mark.parametrize("shape", [(20, 40), (300, 40), (1, 1), (1, 5000), (33, 31)])
def test_a_native_aspect_has_no_border_and_keeps_to_its_patches(shape: tuple[int, int]):
    fit = partial(fit_patches, size=64, patch=8)
    pixels = read_image(Image(np.zeros((*shape, 3), np.uint8)), 64, MOST, fit)
    rows, columns = pixels.shape[1] // 8, pixels.shape[2] // 8
    assert pixels.dtype == torch.uint8 and pixels.shape == (3, 8 * rows, 8 * columns) and not pixels.any()
    assert rows * columns <= 64 < (rows + 1) * (columns + 1)


def test_path_bytes_array_and_picture_are_the_same(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    path = tmp_path / "x.png"
    path.write_bytes(picture_bytes(values))
    expected = read(path.read_bytes())
    for source in (path, str(path), values, pil.fromarray(values)):
        assert torch.equal(read(source), expected)


@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 1)])
def test_arrays_of_one_channel_are_grey(shape: tuple[int, ...]):
    assert colour(read(np.full(shape, 90, np.uint8))) == [90] * 3


def test_arrays_of_four_channels_lie_on_white():
    values = np.full((9, 9, 4), (200, 0, 0, 255), np.uint8)
    assert colour(read(values)) == [200, 0, 0]
    values[..., 3] = 0
    assert colour(read(values)) == [255] * 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I", "F"])
def test_pictures_of_any_mode(mode: str):
    assert colour(read(pil.new("L", (9, 9), 255).convert(mode))) == [255] * 3


def test_a_slice_of_an_array_is_an_image():
    values = np.random.default_rng(0).integers(0, 256, (18, 18, 3), np.uint8)
    assert torch.equal(read(values[::2, ::-2]), read(values[::2, ::-2].copy()))


def test_pixels_that_fit_are_not_touched():
    values = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    assert torch.equal(read(values), torch.from_numpy(values).permute(2, 0, 1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(mode: str):
    clear, half = pil.new(mode, (8, 8), 0), pil.new("RGBA", (8, 8), (0, 0, 0, 128)).convert(mode)
    assert colour(read(picture_bytes(clear))) == [255] * 3
    assert colour(read(picture_bytes(half))) == pytest.approx([127] * 3, abs=1)


def test_transparent_palette_entry_lies_on_white():
    picture = pil.new("P", (8, 8), 0)
    picture.putpalette([200, 0, 0, 0, 200, 0])
    assert colour(read(picture_bytes(picture))) == [200, 0, 0]
    assert colour(read(picture_bytes(picture, transparency=0))) == [255] * 3


def test_sixteen_bits_are_scaled_and_not_clipped():
    assert colour(read(picture_bytes(np.full((8, 8), 32768, np.uint16)))) == pytest.approx([128] * 3, abs=1)
    tiff = picture_bytes(pil.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF")
    assert colour(read(tiff)) == pytest.approx([128] * 3, abs=1)


def test_cmyk_jpeg():
    assert colour(read(picture_bytes(pil.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))) == pytest.approx(
        [254, 0, 0], abs=6
    )


def test_exif_rotation():
    values = np.zeros((20, 20, 3), np.uint8)
    values[:10] = (255, 0, 0)  # red above
    exif = pil.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter: above goes right
    pixels = read(picture_bytes(values, "PNG", exif=exif))
    assert colour(pixels, column=SIZE - 2) == [255, 0, 0] and colour(pixels, column=1) == [0, 0, 0]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(format: str):
    first, second = pil.new("RGB", (8, 8), (250, 0, 0)), pil.new("RGB", (8, 8), (0, 250, 0))
    data = picture_bytes(first, format, save_all=True, append_images=[second], duration=100)
    assert colour(read(data)) == pytest.approx([250, 0, 0], abs=4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50_000), (50_000, 1), (3, 2)])
def test_extreme_shapes(shape: tuple[int, int]):
    pixels = read(picture_bytes(np.zeros((*shape, 3), np.uint8)))
    assert pixels.shape == (3, SIZE, SIZE) and (pixels == 0).any()


def test_svg_is_drawn_to_size():
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="4" height="2"><rect width="4" height="2" fill="#00f"/></svg>'
    pixels = read(svg, "icon.svg")
    assert colour(pixels) == [0, 0, 255] and colour(pixels, row=1) == [255] * 3


def test_a_program_for_a_printer_is_never_run():
    with pytest.raises(ContentError, match="a.eps: is of no image format"):
        read(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "a.eps")


def test_svg_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(ContentError, match="icon.svg: is an SVG, which needs pyvips"):
        read(b"<svg/>", "icon.svg")


def _bomb() -> bytes:
    return picture_bytes(pil.new("1", (2000, 2000)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (picture_bytes(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8))[:9000], "damaged or cut off"),
        (picture_bytes(np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8), "JPEG")[:3000], "cut off"),
        (b"%PDF-1.7 ...", "is a PDF, so it cannot be read as an image"),
        (b"<!DOCTYPE html><html></html>", "is an HTML page"),
        (b"OggS" + bytes(40), "is an Ogg sound"),
        (b"just some words", "of no image format"),
        (_bomb(), "2000 x 2000 = 4000000 pixels, at most 1000000"),
        (b"<svg", "cannot be drawn as SVG"),
        (np.zeros((0, 4, 3), np.uint8), "at least one"),
        (np.zeros((4, 4, 3), np.float32), "uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"\[height, width, 1, 3 or 4\], this one is uint8 \[4, 4, 2\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"this one is uint8 \[2, 4, 4, 3\]"),
    ],
)
def test_bad_input_is_named(data, message: str):
    with pytest.raises(ContentError, match=rf"^shard.tar:key.0.png: .*{message}"):
        read(data, "shard.tar:key.0.png")


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch):
    def decode(self):
        raise AssertionError("decoded")

    data = _bomb()
    opened = type(pil.open(io.BytesIO(data)))
    monkeypatch.setattr(opened, "load", decode)
    with pytest.raises(ContentError, match="image_max_pixels"):
        read(data)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ContentError, match="none.png: cannot be read"):
        read(tmp_path / "none.png", None)
