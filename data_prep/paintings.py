"""Jigsaw tiles -> the painting they were cut from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.pictures import encode_picture, open_picture

_SIZE = (800.0, 520.0)  # of a board that does not state its own, in px
_MAX_SIZE = 4096


def assemble_painting(board: Sequence[dict[str, str]], tile: Callable[[str], bytes]) -> bytes:
    """The painting as WebP: tiles at their centres (fractions of the board), cropped to what they cover.

    Raises:
        DataError: a tile is missing or unreadable, or there is none.
    """
    entries = [entry for entry in board if entry.get("pixmapfile", "").endswith(".webp")]
    sizes = [entry for entry in board if "x" not in entry and "width" in entry and "height" in entry]
    width, height = (float(sizes[0]["width"]), float(sizes[0]["height"])) if sizes else _SIZE
    if not entries or not 0 < max(width, height) <= _MAX_SIZE:
        raise DataError(f"a board of {width:g}x{height:g} with {len(entries)} tiles makes no painting")
    placed = []
    for entry in entries:
        picture = open_picture(tile(entry["pixmapfile"]), entry["pixmapfile"]).convert("RGBA")
        left = round(float(entry["x"]) * width - picture.width / 2)
        top = round(float(entry["y"]) * height - picture.height / 2)
        placed.append((picture, left, top))
    # Tiles may reach over the board's edge: the canvas is what they cover, not what the board says.
    edge_left, edge_top = min(left for _, left, _ in placed), min(top for _, _, top in placed)
    edge_right = max(left + picture.width for picture, left, _ in placed)
    edge_bottom = max(top + picture.height for picture, _, top in placed)
    if max(edge_right - edge_left, edge_bottom - edge_top) > _MAX_SIZE:
        raise DataError("tiles lie too far apart to make a painting")
    canvas = PILImage.new("RGB", (edge_right - edge_left, edge_bottom - edge_top), "white")
    for picture, left, top in placed:
        canvas.paste(picture, (left - edge_left, top - edge_top), picture)
    return encode_picture(canvas)
