"""Images to uint8 pixels: upright, on white, their aspect kept. Squares [3, S, S] are padded with white; where the
vision tower takes native aspects, pixels are [3, H, W] of whole patches without a border.

Normalisation is the tower's business; here pixels stay bytes, so that they travel and cache small.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image as pil
from PIL import UnidentifiedImageError

from commonspace.content import Image
from commonspace.errors import ContentError
from commonspace.processing.decoding import decoding
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.svg import draw_svg, is_svg

# Pillow reads more, among them EPS, which it hands to Ghostscript: a program that runs what a file says.
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "DIB", "ICO", "JPEG2000", "PPM", "QOI", "TGA"),
    *("PCX", "SGI", "DDS", "PSD", "XBM", "XPM"),
)
_ORIENTATION = 0x0112  # the EXIF tag; how each of its values is undone
_TILE = (0x0142, 0x0143)  # TIFF tags: width and height of a tile
_UPRIGHT = {
    2: pil.Transpose.FLIP_LEFT_RIGHT,
    3: pil.Transpose.ROTATE_180,
    4: pil.Transpose.FLIP_TOP_BOTTOM,
    5: pil.Transpose.TRANSPOSE,
    6: pil.Transpose.ROTATE_270,
    7: pil.Transpose.TRANSVERSE,
    8: pil.Transpose.ROTATE_90,
}
_ICON = b"\0\0\1\0"
_WHITE = (255, 255, 255)
_FOREIGN = {
    b"%PDF": "a PDF",
    b"<!DO": "an HTML page",
    b"<htm": "an HTML page",
    b"OggS": "an Ogg sound",
    b"fLaC": "a FLAC sound",
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
    b"PK\x03\x04": "a zip archive",
    b"vers": "a Git LFS pointer",
}


Fit = Callable[[pil.Image], torch.Tensor]  # an upright RGB picture to the pixels uint8 [3, H, W] that a tower takes


def read_image(part: Image, size: int, max_pixels: int, fit: Fit | None = None) -> torch.Tensor:
    """Pixels uint8 [3, size, size] of an image part, or what `fit` makes of it; of an animation its first frame.

    An SVG is drawn with its longer side of `size` pixels.

    Raises ContentError that names the image where it cannot be read or has more than `max_pixels` pixels.
    """
    picture = _open(part, size, max_pixels)
    check_pixels(part.label, picture.width, picture.height, max_pixels)
    with decoding(part.label, "is damaged or cut off"):
        _check_tiles(picture, part.label, max_pixels)
        upright = upright_rgb(picture)
        return fit(upright) if fit else fit_square(upright, size)


def check_pixels(label: str, width: int, height: int, max_pixels: int) -> None:
    """Refuse an image by its header, before its pixels are decoded."""
    if width < 1 or height < 1:
        raise ContentError(f"{label}: has {width} x {height} pixels; an image needs at least one")
    if width * height > max_pixels:
        raise ContentError(
            f"{label}: has {width} x {height} = {width * height} pixels, at most {max_pixels} are decoded "
            "(image_max_pixels); scale it down"
        )


def upright_rgb(picture: pil.Image) -> pil.Image:
    """The picture as RGB, rotated as its EXIF says, transparency over white, deep greys scaled to 8 bits."""
    picture.load()  # before its EXIF: a PNG may hold that after its pixels
    if orientation := _UPRIGHT.get(_orientation(picture)):
        picture = picture.transpose(orientation)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _eight_bits(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = pil.new("RGBA", layer.size, (*_WHITE, 255))
        picture.alpha_composite(layer)
    return picture.convert("RGB")


def fit_square(picture: pil.Image, size: int) -> torch.Tensor:
    """Pixels uint8 [3, size, size]: the longer side fills the square, white fills the rest."""
    scale = size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = pil.new("RGB", (size, size), _WHITE)
    square.paste(picture.resize((width, height), pil.Resampling.BICUBIC), ((size - width) // 2, (size - height) // 2))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def fit_patches(picture: pil.Image, size: int, patch: int, grid: tuple[int, int] | None = None) -> torch.Tensor:
    """Pixels uint8 [3, H, W] of whole patches of `patch` pixels, at most as many as a square of `size` pixels has.

    Patches stand as `grid_of` says, or in a given `grid` of rows and columns; what is left of the aspect is stretched
    by less than a patch. Smaller pictures are scaled up, as to squares.
    """
    rows, columns = grid or grid_of(picture.height, picture.width, (size // patch) ** 2)
    scaled = picture.resize((columns * patch, rows * patch), pil.Resampling.BICUBIC)
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1).contiguous()


def grid_of(height: float, width: float, most: int) -> tuple[int, int]:
    """Rows and columns of the smallest square cells that cover height x width in at most `most` cells."""
    side = min(max(height / rows, width / (most // rows)) for rows in range(1, most + 1))
    rows, columns = (max(1, math.ceil(length / side - 1e-9)) for length in (height, width))
    return rows, columns


def pixel_grid(pixels: torch.Tensor, most: int, preprocessing: Preprocessing) -> tuple[int, int] | None:
    """The grid of at most `most` tokens that pixels [.., H, W] of native aspect stand for; None for squares."""
    return grid_of(*pixels.shape[-2:], most) if preprocessing.image_patch else None


def drawn_size(size: int, patch: int | None) -> int:
    """Pixels of the longer side at which drawings are drawn: without a border that side may be longer than `size`."""
    return 2 * size if patch else size


def _open(part: Image, size: int, max_pixels: int) -> pil.Image:
    if isinstance(part.source, pil.Image):
        return part.source
    if isinstance(part.source, np.ndarray):
        return from_array(part.source, part.label, max_pixels)
    data = part.read_bytes()
    if not data:
        raise ContentError(f"{part.label}: is empty; replace the file")
    if is_svg(data):
        return draw_svg(data, part.label, size)
    with decoding(part.label, "is damaged or cut off"):
        if data.startswith(_ICON):
            _check_icon(data, part.label, max_pixels)
        try:
            return pil.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            found = next((name for start, name in _FOREIGN.items() if data.startswith(start)), "of no image format")
            raise ContentError(
                f"{part.label}: is {found}, so it cannot be read as an image; replace the file"
            ) from error
        except pil.DecompressionBombError as error:
            raise ContentError(f"{part.label}: {error} (image_max_pixels={max_pixels}); scale it down") from error


def _check_icon(data: bytes, label: str, max_pixels: int) -> None:
    """Refuse an icon that holds a larger picture than it says: Pillow decodes one as it opens it."""
    (count,) = struct.unpack_from("<H", data, 4)
    for entry in range(count):
        (start,) = struct.unpack_from("<I", data, 6 + 16 * entry + 12)
        is_png = data[start : start + 4] == b"\x89PNG"
        layout, offset = (">II", 16) if is_png else ("<ii", 4)
        width, height = struct.unpack_from(layout, data, start + offset)
        check_pixels(label, abs(width), abs(height), max_pixels)


def _check_tiles(picture: pil.Image, label: str, max_pixels: int) -> None:
    """Refuse a TIFF whose tiles are larger than the picture may be: whole tiles are decoded."""
    if picture.format == "TIFF":
        width, height = (picture.tag_v2.get(tag, 1) for tag in _TILE)
        check_pixels(label, width, height, max_pixels)


def _orientation(picture: pil.Image) -> int | None:
    try:
        return picture.getexif().get(_ORIENTATION)
    except Exception:  # as viewers do: a picture whose EXIF is broken is shown as it is stored
        return None


def from_array(values: np.ndarray, label: str, max_pixels: int) -> pil.Image:
    """A PIL image of a uint8 array [height, width], or [height, width, 1, 3 or 4]: grey, RGB or RGBA."""
    channels = values.shape[2] if values.ndim == 3 else 1 if values.ndim == 2 else None
    if values.dtype != np.uint8 or channels not in (1, 3, 4):
        raise ContentError(
            f"{label}: an image array is uint8 [height, width] or [height, width, 1, 3 or 4], this one is "
            f"{values.dtype} {list(values.shape)}"
        )
    check_pixels(label, values.shape[1], values.shape[0], max_pixels)
    return pil.fromarray(values.reshape(values.shape[:2]) if channels == 1 else values)


def _eight_bits(picture: pil.Image) -> pil.Image:
    """16-bit and floating greys scaled to 0..255; plain conversion would clip them to white."""
    values = np.nan_to_num(np.asarray(picture).astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if picture.mode == "F":
        top = 1.0 if values.max(initial=0) <= 1 else 255.0 if values.max() <= 255 else 65535.0
    else:
        top = 255.0 if picture.mode == "I" and values.max(initial=0) <= 255 else 65535.0
    return pil.fromarray((values * (255 / top)).clip(0, 255).round().astype(np.uint8))
