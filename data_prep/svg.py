"""SVG bytes -> a small picture on white, for sources that ship drawings only."""

from __future__ import annotations

import re

import numpy as np
import pyvips

from commonspace.errors import DataError

MAX_BYTES = 2_000_000  # a drawing beyond this renders for seconds and is nearly always a traced photo
SIDE = 256
_DPI = 96  # of CSS: at the loader's own 72 a page of 700pt is smaller than the 933 px drawn on it, and cuts it
_SIZED_ENTITY = re.compile(r"<!ENTITY\s+(%\s+)?[\w.-]+\s+(\"[^\"]*\"|'[^']*')", re.IGNORECASE | re.ASCII)
_ENTITY = re.compile(r"<!ENTITY", re.IGNORECASE | re.ASCII)
_DECLARATION = re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]*")
_ENCODING = re.compile(rb"encoding\s*=\s*[\"']?([\w.:-]*)")
_KNOWN_ENCODINGS = frozenset({"utf-8", "us-ascii", "iso-8859-1"})  # of some old drawings the last

pyvips.cache_set_max(0)  # every drawing is rendered once: the operation cache would only hold memory


def check_entities(svg: bytes, name: str) -> None:
    """Refuse entities that read files or that grow: only a plain quoted value without another entity is let through.

    Illustrator writes such values for its name spaces, so a blanket refusal would lose good drawings.

    Raises:
        DataError: an entity is external, a parameter entity, or refers to another one; or the drawing is not in plain
            text, where entities would be hidden.
    """
    text = _text(svg, name)
    plain = [match for match in _SIZED_ENTITY.finditer(text) if not match[1] and "&" not in match[2]]
    if len(plain) != len(_ENTITY.findall(text)):
        raise DataError(f"{name}: its DOCTYPE declares external or nested entities; leave this drawing out")


def _text(svg: bytes, name: str) -> str:
    """The drawing as the XML parser will read it; only encodings whose ASCII is ASCII are let through."""
    if svg.startswith(b"\x1f\x8b"):
        raise DataError(f"{name}: is compressed by gzip; leave this drawing out, or unpack it first")
    head = _DECLARATION.match(svg)
    declared = {found.decode("ascii", "replace").lower() for found in _ENCODING.findall(head[0])} if head else set()
    encoding = "utf-8" if not declared else declared.pop()
    if declared or encoding not in _KNOWN_ENCODINGS:
        raise DataError(f"{name}: declares encoding {encoding}; leave this drawing out, or save it as UTF-8")
    if b"\0" in svg:
        raise DataError(f"{name}: is no {encoding} text, as in UTF-16; leave this drawing out, or save it as UTF-8")
    try:
        return svg.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: is no {encoding} text ({error.reason}); leave this drawing out") from error


def render_svg(svg: bytes, name: str, side: int = SIDE) -> bytes:
    """The drawing as WebP bytes, aspect kept, long side `side` px, transparency on white.

    Files that the drawing links to are never read: it is rendered from memory, without a base folder.

    Raises:
        DataError: not SVG, too large, compressed, in another encoding, unsafe entities, or nothing visible in it.
    """
    if len(svg) > MAX_BYTES:
        raise DataError(f"{name}: {len(svg)} bytes of SVG are over the limit of {MAX_BYTES}; leave this drawing out")
    check_entities(svg, name)
    try:
        image = pyvips.Image.svgload_buffer(svg, dpi=_DPI)
        scale = side / max(image.width, image.height)
        image = pyvips.Image.svgload_buffer(svg, dpi=_DPI, scale=scale) if scale != 1 else image
        if image.hasalpha():
            image = image.flatten(background=[255, 255, 255])
        pixels = image.numpy()
        if max(image.width, image.height) > 2 * side or min(image.width, image.height) < 8:
            raise DataError(f"{name}: rendered to {image.width}x{image.height}; leave this drawing out")
        if (pixels == pixels[:1, :1]).all():
            raise DataError(f"{name}: nothing is visible in it; leave this drawing out")
        return pyvips.Image.new_from_array(_trimmed(pixels), interpretation="srgb").webpsave_buffer(Q=90, effort=0)
    except pyvips.Error as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: cannot be rendered ({reason[:160]}); leave this drawing out") from error


def _trimmed(pixels: np.ndarray) -> np.ndarray:
    """Without the empty page around a drawing that was left in one corner of it; uint8 [height, width, bands]."""
    drawn = (pixels < 255).any(axis=-1)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if not len(rows) or min(np.ptp(rows), np.ptp(columns)) < 8:
        return pixels
    margin = 4
    top, left = max(rows[0] - margin, 0), max(columns[0] - margin, 0)
    return np.ascontiguousarray(pixels[top : rows[-1] + 1 + margin, left : columns[-1] + 1 + margin])
