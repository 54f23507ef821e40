"""One row of a set to the variants of a record's side: its texts, its picture, its sound, its clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from commonspace.content import Audio, Content, Document, Image, Video
from commonspace.data.sample import Variant
from commonspace.errors import DataError
from data_prep.pictures import header_fault
from data_prep.public.fields import fill, find, one, texts

KINDS = ("text", "image", "page", "audio", "video")
Opener = Callable[[str], Path | bytes]  # of a medium's name


class LeftOut(Exception):
    """Why a row is not taken: no error, it is counted and passed over."""


def side_of(what: Mapping[str, Any], row: Mapping[str, Any], open_media: Opener, language: str | None) -> list[Variant]:
    """The variants of one side, in order; the first is the canonical one.

    {text: PATH or TEMPLATE, or a list of them}, {text: {en: ..., zh: ...}}, {text: ..., without: PATH} where a text
    that stands in the other would give it away, {image: TEMPLATE}, {page: ...}, {audio: ...}, or {video: ...,
    start: PATH, end: PATH} for a stretch of one. A medium may have several templates, of which the first file that is
    there is taken. A field that holds encoded bytes, as in parquet, is named by its path alone.

    Raises:
        LeftOut: there is no text, or no usable medium, in this row.
    """
    kind = next(key for key in KINDS if key in what)
    if kind == "text":
        found = _texts(what, row, language)
        if not found:
            raise LeftOut("empty text")
        return found
    medium = _medium(what[kind], row, open_media)
    label = medium if isinstance(medium, Path) else f"{kind} in the row"
    if kind in ("image", "page"):
        if fault := header_fault(medium):
            raise LeftOut(fault)
        picture = Image(medium, name=str(label))
        return [Variant(Content(Document(picture) if kind == "page" else picture), language)]
    if kind == "audio":
        return [Variant(Content(Audio(medium, name=str(label))), language)]
    if "start" in what:
        return [Variant(Content(_stretch(medium, what, row)), language)]
    return [Variant(Content(Video(medium, name=str(label))), language)]


def _texts(what: Mapping[str, Any], row: Mapping[str, Any], language: str | None) -> list[Variant]:
    by_language = what["text"] if isinstance(what["text"], Mapping) else {language: what["text"]}
    found = []
    for code, paths in by_language.items():
        for path in [paths] if isinstance(paths, str) else paths:
            found += [(text, code) for text in texts(row, path)]
    if "without" in what:
        inner = str(one(row, what["without"])).strip()
        found = [(text.replace(inner, "").strip() if inner else text, code) for text, code in found]
    return [Variant(Content(text), code) for text, code in found if text]


def _medium(names: Any, row: Mapping[str, Any], open_media: Opener) -> Path | bytes:
    for name in [names] if isinstance(names, str) else names:
        if "{" not in name:
            value = one(row, name)
            value = value.get("bytes") if isinstance(value, Mapping) else value
            if isinstance(value, bytes):
                if not value:
                    raise LeftOut("empty media file")
                return value
            if value is None:
                raise LeftOut("no media file")
            name = str(value)
        else:
            name = fill(name, row)
        try:
            return open_media(name)
        except FileNotFoundError:
            continue
    raise LeftOut("no media file")


def inside(folder: Path) -> Opener:
    """Opens files below a folder; a name that leads out of it is an error."""
    root = folder.resolve()

    def open_media(name: str) -> Path:
        path = root / name
        if not path.resolve().is_relative_to(root):
            raise DataError(f"{name!r} lies outside {folder}; the annotations are not as published, do not use them")
        if not path.is_file():
            raise FileNotFoundError(name)
        if not path.stat().st_size:
            raise LeftOut("empty media file")
        return path

    return open_media


def _stretch(medium: Path | bytes, what: Mapping[str, Any], row: Mapping[str, Any]) -> Video:
    if not isinstance(medium, Path):
        raise DataError("stretches are cut from files, not from bytes in a row")
    from data_prep.public.cutting import cut_clip

    start, end = (float(find(row, what[key])[0]) for key in ("start", "end"))
    try:
        clip = cut_clip(medium, start, end)
    except DataError as error:
        raise LeftOut("stretch cannot be cut from its video") from error
    return Video(clip, name=f"{medium.name}-{start:g}-{end:g}.mp4")
