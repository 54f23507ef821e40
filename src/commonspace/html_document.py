"""An HTML page to a document: its texts, and its images where they stand between them.

Images are files beside the page or `data:` URIs. Nothing is fetched, and no path leads out of the page's folder.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from bs4 import BeautifulSoup, UnusualUsageWarning
from bs4.dammit import EncodingDetector
from bs4.element import NavigableString, PageElement, Tag
from bs4.exceptions import ParserRejectedMarkup

from commonspace.content import Document, Image, Unreadable
from commonspace.errors import ContentError

_UNSEEN = frozenset("head script style template svg math iframe object audio video canvas select".split())
_INLINE = frozenset(
    "a abbr b bdi bdo cite code data del dfn em font i ins kbd label mark noscript picture q rb rp rt ruby s samp "
    "small source span strong sub sup time tt u var wbr".split()
)
_CELLS = frozenset({"td", "th"})
_BREAK = "\n"  # in a run of words: a new line
_OTHERWISE = "or use unreadable='alt'"


def read_html(source: str | Path | bytes, *, unreadable: Unreadable = "error", name: str | None = None) -> Document:
    """The document of an HTML page, given by its path or, with `data:` images alone, by its bytes.

    unreadable  what an image becomes that is on the network, outside the page's folder or missing: an "error", or its
                "alt" text
    Raises ContentError that names the page, the image and why, and where the page shows nothing.
    """
    if unreadable not in get_args(Unreadable):
        raise ContentError(f"unreadable={unreadable!r}: use 'error' or 'alt'")
    page = _Page(source, name)
    parts: list[str | Image] = []
    words: list[str] = []
    for item in _in_order(page.parse()):
        if isinstance(item, str):
            words.append(item)
            continue
        try:
            image = page.image(str(item["src"]))
        except ContentError:
            if unreadable == "error":
                raise
            words.append(f" {item.get('alt', '')} ")
            continue
        parts += [*_text(words), image]
        words = []
    parts += _text(words)
    if not parts:
        raise ContentError(f"{page.label}: shows neither a text nor an image; is it an HTML page?")
    return Document(*parts)


def _in_order(root: Tag) -> Iterator[str | Tag]:
    """Words, line breaks and images with a source, in reading order; nothing that a browser would not show.

    A stack instead of recursion: pages nest as deep as they like.
    """
    stack: list[tuple[PageElement | str, bool]] = [(root, False)]
    while stack:
        node, is_preformatted = stack.pop()
        if type(node) is str:
            yield node
        elif type(node) is NavigableString:  # its children are comments, declarations, scripts and ruby
            yield str(node) if is_preformatted else " ".join(node.split(_BREAK))
        elif isinstance(node, Tag) and node.name == "img":
            if str(node.get("src", "")).strip() and not node.has_attr("hidden"):
                yield node
        elif isinstance(node, Tag) and node.name not in _UNSEEN and not node.has_attr("hidden"):
            is_preformatted |= node.name == "pre"
            around = "" if node.name in _INLINE else " " if node.name in _CELLS else _BREAK
            inner = [around, *reversed(node.contents), around]
            stack += [(child, is_preformatted) for child in inner]


def _text(words: list[str]) -> list[str]:
    """One text of what stands between two images, white space as a browser shows it; none where nothing is left."""
    lines = (" ".join(line.split()) for line in "".join(words).split(_BREAK))
    text = _BREAK.join(line for line in lines if line)
    return [text] if text else []


class _Page:
    """The page and what its images may be."""

    def __init__(self, source: str | Path | bytes, name: str | None) -> None:
        self.source = source
        self.label = name or ("<html in memory>" if isinstance(source, bytes) else str(source))

    def parse(self) -> BeautifulSoup:
        """The page's tree. The parser is Python's own: it knows no external entity and loads nothing."""
        try:
            with warnings.catch_warnings():  # XHTML and fragments read well enough as HTML
                warnings.simplefilter("ignore", UnusualUsageWarning)
                return BeautifulSoup(_decoded(self._bytes()), "html.parser")
        except ParserRejectedMarkup as error:
            cause = str(error).splitlines()[-1].strip()
            raise ContentError(f"{self.label}: cannot be read as HTML ({cause}); correct it") from error

    def _bytes(self) -> bytes:
        if isinstance(self.source, bytes):
            return self.source
        try:
            return Path(self.source).read_bytes()
        except OSError as error:
            raise ContentError(f"{self.label}: cannot be read ({error.strerror or error}); check the path") from error

    def image(self, address: str) -> Image:
        """The image of a `src`; ContentError where it is no file beside the page and no `data:` URI."""
        shown = f"{self.label}: image {address[:80]!r}"
        address = address.strip()
        try:
            parts = urlsplit(address)
        except ValueError as error:
            raise ContentError(f"{shown}: is no address ({error}); correct it") from error
        if parts.scheme == "data":
            return Image(_embedded(address, shown), name=f"{self.label}: embedded image")
        if parts.scheme or parts.netloc:
            raise ContentError(f"{shown}: is not beside the page, and nothing is fetched; save it there {_OTHERWISE}")
        if isinstance(self.source, bytes):
            raise ContentError(f"{shown}: a page in memory has no folder; give the page's path {_OTHERWISE}")
        return Image(self._beside(unquote(parts.path), shown))

    def _beside(self, relative: str, shown: str) -> Path:
        """The file with every link resolved, so that what is read later is what was checked."""
        folder = Path(self.source).parent.resolve()
        try:
            path = (folder / relative).resolve()
            is_file = path.is_file()
        except (OSError, ValueError) as error:
            raise ContentError(f"{shown}: is no path ({error}); correct it {_OTHERWISE}") from error
        if not path.is_relative_to(folder):
            raise ContentError(f"{shown}: lies outside the page's folder; move it there {_OTHERWISE}")
        if not is_file:
            raise ContentError(f"{shown}: no such file beside the page; put it there {_OTHERWISE}")
        return path


def _decoded(data: bytes) -> str:
    """The text by its byte order mark, else as the page says, else UTF-8, else Windows-1252: nothing is guessed."""
    data, marked = EncodingDetector.strip_byte_order_mark(data)
    declared = EncodingDetector.find_declared_encoding(data, is_html=True) or ""
    if declared.lower().startswith(("utf-16", "utf-32")):  # it could not have been read so far if it were
        declared = "utf-8"
    for encoding in (marked, declared, "utf-8"):
        try:
            if encoding:
                return data.decode(encoding)
        except (LookupError, ValueError):
            continue
    return data.decode("windows-1252", errors="replace")


def _embedded(address: str, shown: str) -> bytes:
    """The bytes of a `data:` URI (RFC 2397)."""
    head, comma, payload = address.partition(",")
    if not comma or not head[len("data:") :].lower().startswith("image/"):
        raise ContentError(f"{shown}: is no image as a data: URI; correct it {_OTHERWISE}")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(payload)
    try:
        return base64.b64decode("".join(unquote(payload).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ContentError(f"{shown}: is damaged base64 ({error}); correct it {_OTHERWISE}") from error
