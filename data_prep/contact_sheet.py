"""A small picture of what a source looks like: thumbnails of its images, or strips of frames of its clips."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import av.error
from PIL import Image as PILImage

from commonspace.content import Content, Document, Image, Video
from commonspace.data.sample import Record

_THUMBNAIL = 88  # px
_COLUMNS, _ROWS = 10, 4
_MAX_BYTES = 150_000


def write_sheet(records: Iterable[Record], path: Path) -> Path | None:
    """Write a PNG of at most 150 kB with up to 40 pictures of the records; None where they have none."""
    pictures: list[PILImage.Image] = []
    for picture in _pictures(records):
        pictures.append(_thumbnail(picture))
        if len(pictures) == _COLUMNS * _ROWS:
            break
    if not pictures:
        path.unlink(missing_ok=True)
        return None
    rows = -(-len(pictures) // _COLUMNS)
    sheet = PILImage.new("RGB", (_COLUMNS * _THUMBNAIL, rows * _THUMBNAIL), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % _COLUMNS * _THUMBNAIL, number // _COLUMNS * _THUMBNAIL))
    path.write_bytes(_small_png(sheet))
    return path


def _small_png(sheet: PILImage.Image) -> bytes:
    """A PNG with as many colours as fit: drawings stay sharp, where JPEG would smear their edges."""
    data = b""
    for colours in (256, 128, 64, 32, 16):
        buffer = io.BytesIO()
        sheet.quantize(colours, dither=PILImage.Dither.NONE).save(buffer, "PNG", optimize=True)
        data = buffer.getvalue()
        if len(data) <= _MAX_BYTES:
            break
    return data


def _pictures(records: Iterable[Record]) -> Iterator[PILImage.Image]:
    """The first image of each record, once each; of a clip as many frames as fill half a row."""
    seen: set[bytes] = set()
    for record in records:
        for content in (record.queries[0].content, record.positives[0].content):
            part = _first_visible(content)
            if part is None or (data := part.read_bytes()) in seen:
                continue
            seen.add(data)
            yield from _frames(data) if isinstance(part, Video) else _decoded(data)
            break


def _first_visible(content: Content) -> Image | Video | None:
    parts = [inner for part in content.parts for inner in (part.parts if isinstance(part, Document) else (part,))]
    return next((part for part in parts if isinstance(part, (Image, Video))), None)


def _decoded(data: bytes) -> Iterator[PILImage.Image]:
    try:
        yield PILImage.open(io.BytesIO(data))
    except OSError:  # a picture that does not open is training's business to count; the sheet shows the next one
        return


def _frames(data: bytes) -> Iterator[PILImage.Image]:
    try:
        with av.open(io.BytesIO(data)) as clip:
            frames = [frame.to_image() for frame in clip.decode(video=0)]
    except (av.error.FFmpegError, IndexError):
        return
    half = _COLUMNS // 2
    yield from (frames[number * (len(frames) - 1) // max(half - 1, 1)] for number in range(half) if frames)


def _thumbnail(picture: PILImage.Image) -> PILImage.Image:
    small = picture.convert("RGBA")
    small.thumbnail((_THUMBNAIL - 4, _THUMBNAIL - 4))
    square = PILImage.new("RGB", (_THUMBNAIL, _THUMBNAIL), "white")
    square.paste(small, ((_THUMBNAIL - small.width) // 2, (_THUMBNAIL - small.height) // 2), small)
    return square
