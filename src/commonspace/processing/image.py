"""Images to uint8 pixels [3, S, S]: upright, on white, aspect kept by white padding.

Normalisation is the tower's business; here pixels stay bytes, so that they travel and cache small.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image as pil
from PIL import ImageOps, UnidentifiedImageError

from commonspace.content import Image
from commonspace.errors import ContentError

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


def read_image(part: Image, size: int, max_pixels: int) -> torch.Tensor:
    """Pixels uint8 [3, size, size] of an image part; of an animation its first frame.

    Raises ContentError that names the image where it cannot be read or has more than `max_pixels` pixels.
    """
    picture = _open(part, size, max_pixels)
    check_pixels(part.label, picture.width, picture.height, max_pixels)
    try:
        picture = upright_rgb(picture)
    except (OSError, ValueError, SyntaxError, EOFError, pil.DecompressionBombError) as error:
        raise ContentError(f"{part.label}: is damaged or cut off ({error}); replace the file") from error
    return fit_square(picture, size)


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
    picture = ImageOps.exif_transpose(picture)
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


def _open(part: Image, size: int, max_pixels: int) -> pil.Image:
    if isinstance(part.source, pil.Image):
        return part.source
    if isinstance(part.source, np.ndarray):
        return from_array(part.source, part.label, max_pixels)
    data = part.read_bytes()
    if not data:
        raise ContentError(f"{part.label}: is empty; replace the file")
    if _is_svg(data):
        return _render_svg(data, part.label, size)
    try:
        return pil.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        found = next((name for start, name in _FOREIGN.items() if data.startswith(start)), "of no image format")
        raise ContentError(f"{part.label}: is {found}, so it cannot be read as an image; replace the file") from error
    except pil.DecompressionBombError as error:
        raise ContentError(f"{part.label}: {error} (image_max_pixels={max_pixels}); scale it down") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise ContentError(f"{part.label}: is damaged or cut off ({error}); replace the file") from error


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


def _is_svg(data: bytes) -> bool:
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith((b"<?xml", b"<!--", b"<!DOCTYPE svg", b"<svg")) and b"<svg" in data[:65536]


def _render_svg(data: bytes, label: str, size: int) -> pil.Image:
    """An SVG drawn so that its longer side has `size` pixels."""
    try:
        import pyvips
    except ImportError as error:
        raise ContentError(f"{label}: is an SVG, which needs pyvips; pip install 'pyvips[binary]'") from error
    try:
        natural = pyvips.Image.svgload_buffer(data)
        drawn = pyvips.Image.svgload_buffer(data, scale=size / max(natural.width, natural.height))
        return pil.fromarray(np.ascontiguousarray(drawn.colourspace("srgb").numpy()))
    except (pyvips.Error, ValueError) as error:
        raise ContentError(f"{label}: cannot be drawn as SVG ({str(error).strip()}); replace the file") from error
