"""Documents as a flat run of parts, and the parts that count towards the limit of images."""

from __future__ import annotations

from collections.abc import Iterator

from commonspace.content import Content, Document, Image, Text
from commonspace.errors import ContentError


def document_parts(document: Document) -> list[Text | Image]:
    """The document's parts in reading order without blank texts (layout leaves many of those between blocks).

    Raises ContentError for a document in which nothing is left to embed.
    """
    parts = [part for part in document.parts if not (isinstance(part, Text) and not part.text.strip())]
    if not parts:
        raise ContentError("a document holds neither a text nor an image; give it parts, or leave it out")
    return parts


def images(content: Content) -> Iterator[Image]:
    """The images of a content in order, those inside its documents too."""
    for part in content.parts:
        if isinstance(part, Image):
            yield part
        elif isinstance(part, Document):
            yield from (inner for inner in part.parts if isinstance(inner, Image))
