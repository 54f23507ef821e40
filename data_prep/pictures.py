"""Pictures as they go into shards: small ones untouched, large ones re-encoded, bombs and broken ones refused."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image as PILImage

from commonspace.content import Image
from commonspace.errors import DataError

KEEP_SIDE = 512  # up to this long side the original bytes travel
SMALL_SIDE = 384
MAX_PIXELS = 40_000_000
MIN_SIDE = 8
_KEPT = {"PNG", "JPEG", "WEBP"}
_ENDS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"\0\0\0\0IEND\xaeB`\x82"), (b"GIF8", b"\0\x3b"))
_RUN = {"EPS", "WMF"}  # which Pillow hands to programs of the system, to run what the file says


def open_picture(source: Path | bytes, name: str) -> PILImage.Image:
    """The decoded picture. Its size is read from the header and judged before a pixel is unpacked.

    Raises:
        DataError: not a picture, truncated, above `MAX_PIXELS` or below `MIN_SIDE`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the limit below is stricter than Pillow's warning
            picture = PILImage.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise DataError(
                f"{name}: {width}x{height} is over {MAX_PIXELS} pixels, as in a decompression bomb; leave it out"
            )
        if min(width, height) < MIN_SIDE:
            raise DataError(f"{name}: {width}x{height} is too small to show anything; leave it out")
        picture.load()
        return picture
    except (OSError, SyntaxError, ValueError, PILImage.DecompressionBombError) as error:
        raise DataError(f"{name}: is not a readable picture ({error}); leave it out") from error


def header_fault(source: Path | bytes, most: int = MAX_PIXELS) -> str | None:
    """What is wrong with a picture by its header alone, or None. Nothing is decoded, so a bomb costs nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PILImage.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
                width, height = picture.size
    except PILImage.DecompressionBombError:
        return f"picture over {most} pixels"
    except (OSError, SyntaxError, ValueError):
        return "not a readable picture"
    if width * height > most:
        return f"picture over {most} pixels"
    return f"picture below {MIN_SIDE} pixels a side" if min(width, height) < MIN_SIDE else None


def is_whole_picture(source: Path | bytes) -> bool:
    """Whether a picture, whose header was judged, is there to its end.

    One that ends as its format does is not decoded; another may have more behind its end, so its pixels decide.
    """
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        if data.startswith(b"RIFF") and int.from_bytes(data[4:8], "little") + 8 <= len(data):
            return True
        if any(data.startswith(start) and data.endswith(end) for start, end in _ENDS):
            return True
        with PILImage.open(io.BytesIO(data)) as picture:
            if picture.format in _RUN:
                return False
            picture.load()
    except Exception:  # decoders raise what they like on broken bytes
        return False
    return True


def encode_picture(picture: PILImage.Image, side: int = SMALL_SIDE, quality: int = 85) -> bytes:
    """WebP bytes of a decoded picture, long side at most `side` px, alpha kept."""
    plain = picture.convert("RGBA" if _has_alpha(picture) else "RGB")
    if max(plain.size) > side:
        plain.thumbnail((side, side), PILImage.Resampling.LANCZOS)
    buffer = io.BytesIO()
    plain.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()


def small_picture(source: Path | bytes, name: str) -> Image:
    """The picture as content: original where small and of a common format, else WebP of at most `SMALL_SIDE` px.

    Raises:
        DataError: as `open_picture`.
    """
    picture = open_picture(source, name)
    if max(picture.size) <= KEEP_SIDE and picture.format in _KEPT and not getattr(picture, "is_animated", False):
        return Image(source, name=name)
    return Image(encode_picture(picture), name=name)


def _has_alpha(picture: PILImage.Image) -> bool:
    return "A" in picture.getbands() or "transparency" in picture.info
