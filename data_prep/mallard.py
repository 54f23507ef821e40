"""Mallard help pages (projectmallard.org) to blocks in reading order: paragraphs, and figures with their captions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from commonspace.errors import DataError

_MALLARD = "{http://projectmallard.org/1.0/}"
_CONDITION = "{http://projectmallard.org/if/1.0/}"
_SKIPPED = frozenset({"info", "links", "comment", "title", "desc", "credit"})
_PARAGRAPHS = frozenset({"p", "screen", "code"})


@dataclass(frozen=True)
class Block:
    """One paragraph, or one figure: then `figure` is its path in the page's folder and `text` its caption, if any.

    `heading` is the title of the section, or of the page, that it stands in. `alone` is false for an icon inside a
    sentence, whose paragraph is the block before it.
    """

    text: str
    heading: str
    figure: str | None = None
    alone: bool = True


@dataclass(frozen=True)
class Page:
    """A help page: its title, its one-sentence description, and its body."""

    name: str
    title: str
    description: str
    blocks: tuple[Block, ...]

    @property
    def paragraphs(self) -> list[str]:
        """Title, description and paragraphs, in an order that translations of the page share."""
        return [self.title, self.description, *(block.text for block in self.blocks if block.figure is None)]


def read_page(path: Path) -> Page:
    """Parse one page.

    Raises:
        DataError: it is not XML.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise DataError(f"{path}: not a readable help page ({error}); delete its folder and build again") from error
    title = _text(root.find(f"{_MALLARD}title"))
    description = _text(root.find(f"{_MALLARD}info/{_MALLARD}desc"))
    return Page(path.stem, title, description, tuple(_blocks(root, title)))


def _blocks(element: ElementTree.Element, heading: str) -> Iterator[Block]:
    for child in _chosen(element):
        name = _name(child)
        if name in _SKIPPED:
            continue
        if name == "section":
            yield from _blocks(child, _text(child.find(f"{_MALLARD}title")) or heading)
        elif name == "figure":
            yield from _figure(child, heading)
        elif name == "media":
            yield from _media(child, "", heading, alone=True)
        elif name in _PARAGRAPHS:
            text = _text(child)
            if text:
                yield Block(text, heading)
            for media in child.iter(f"{_MALLARD}media"):
                yield from _media(media, "", heading, alone=not text)
        else:
            yield from _blocks(child, heading)


def _chosen(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Children; of the alternatives for one desktop or another only the first, as a reader would see it."""
    for child in element:
        if child.tag == f"{_CONDITION}choose":
            first = next(iter(child), None)
            yield from _chosen(first) if first is not None else ()
        else:
            yield child


def _figure(element: ElementTree.Element, heading: str) -> Iterator[Block]:
    caption = _text(element.find(f"{_MALLARD}title")) or _text(element.find(f"{_MALLARD}desc"))
    for media in element.iter(f"{_MALLARD}media"):
        yield from _media(media, caption, heading, alone=True)


def _media(element: ElementTree.Element, caption: str, heading: str, alone: bool) -> Iterator[Block]:
    if element.get("type", "image") == "image" and element.get("src"):
        yield Block(caption, heading, figure=element.get("src"), alone=alone)


def _name(element: ElementTree.Element) -> str:
    return element.tag.removeprefix(_MALLARD) if isinstance(element.tag, str) else "comment"


def _text(element: ElementTree.Element | None) -> str:
    """All text inside an element, white space squeezed."""
    return " ".join("".join(element.itertext()).split()) if element is not None else ""
