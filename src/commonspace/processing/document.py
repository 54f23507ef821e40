"""Documents as flat runs of parts, and how many images and pages of them one content may have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from commonspace.content import Audio, Content, Document, Image, Pdf, Text, Video
from commonspace.errors import ContentError
from commonspace.processing.pdf import Page, first_pages
from commonspace.processing.preprocessing import Preprocessing

Sheet = Text | Image | Page


@dataclass(frozen=True)
class Sheets:
    """A document whose PDFs are opened: what it holds, in reading order."""

    inner: tuple[Sheet, ...]


Opened = Text | Image | Audio | Video | Sheets


def open_documents(content: Content, preprocessing: Preprocessing, *, cut: bool) -> tuple[list[Opened], list[str]]:
    """The parts of a content with at most `max_images` images and `max_pages` pages, and notes of what was left out.

    Images in documents count as images, pages of PDFs as pages. Raises ContentError beyond a limit unless it may be
    `cut` to its first ones, and for a PDF that cannot be opened or a document of nothing.
    """
    parts: list[Opened] = [
        Sheets(tuple(document_parts(part, preprocessing.max_pages))) if isinstance(part, Document) else part
        for part in content.parts
    ]
    notes: list[str] = []
    for limit in _limits(parts, preprocessing):
        if limit.count <= limit.most:
            continue
        if not cut:
            raise ContentError(
                f"{limit.files or 'a content'} has {limit.count} {limit.things}, at most {limit.most} are taken "
                f"(max_{limit.things}); leave some out or use on_limit=truncate"
            )
        parts = _first(parts, limit.kind, limit.most)
        notes.append(f"{limit.files} the first {limit.most} of {limit.count} {limit.things} kept".strip())
    return parts, notes


def document_parts(document: Document, most_pages: int) -> list[Sheet]:
    """The document's parts in reading order without blank texts (layout leaves many of those), PDFs as their pages.

    Of each PDF at most `most_pages`: more than that are never drawn.

    Raises ContentError for a document in which nothing is left to embed.
    """
    parts: list[Sheet] = []
    for part in document.parts:
        if isinstance(part, Pdf):
            parts += first_pages(part, most_pages)
        elif isinstance(part, Image) or part.text.strip():
            parts.append(part)
    if not parts:
        raise ContentError("a document holds neither a text nor an image; give it parts, or leave it out")
    return parts


def _flat(parts: Sequence[Opened]) -> Iterator[Text | Image | Audio | Video | Page]:
    for part in parts:
        if isinstance(part, Sheets):
            yield from part.inner
        else:
            yield part


class _Limit(NamedTuple):
    files: str
    count: int
    things: str
    kind: type
    most: int


def _limits(parts: Sequence[Opened], preprocessing: Preprocessing) -> list[_Limit]:
    """How many images and pages there are; of pages all that the files have, not only those that were opened."""
    images = sum(isinstance(item, Image) for item in _flat(parts))
    first = [item for item in _flat(parts) if isinstance(item, Page) and item.index == 0]
    names = " and ".join(dict.fromkeys(page.pdf.label for page in first))
    return [
        _Limit("", images, "images", Image, preprocessing.max_images),
        _Limit(f"{names}:", sum(page.count for page in first), "pages", Page, preprocessing.max_pages),
    ]


def _first(parts: Sequence[Opened], kind: type, limit: int) -> list[Opened]:
    """The parts with the first `limit` of a kind; a document of which nothing is left goes."""
    left = limit

    def keep(item: object) -> bool:
        nonlocal left
        left -= isinstance(item, kind)
        return not isinstance(item, kind) or left >= 0

    kept: list[Opened] = []
    for part in parts:
        if isinstance(part, Sheets):
            inner = tuple(item for item in part.inner if keep(item))
            kept += [Sheets(inner)] if inner else []
        elif keep(part):
            kept.append(part)
    return kept
