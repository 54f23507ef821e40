"""Help pages as DocBook's stylesheets write them -> headings, paragraphs and figures in reading order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset({"img", "br", "hr", "link", "meta", "col", "input", "area", "base", "wbr", "source"})
_SKIPPED_CLASSES = frozenset("navheader navfooter toc indexdiv footnotes bibliography literallayout equation".split())
_SKIPPED_TAGS = frozenset({"script", "style", "pre", "th"})
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCKS = frozenset({"p", "dt"})
_ENDS_PARAGRAPH = _HEADINGS | {"p", "div", "ul", "ol", "dl", "pre", "table", "hr"}
_NUMBERING = re.compile(r"^(?:(?:Chapter|Appendix|Part|Figure|Table|Example)\s+)?(?:[\dA-Z]{1,4}\.)+(?:\d+\.?)*\s+")


@dataclass
class Picture:
    """An image file as the page names it, and its own caption."""

    file: str
    caption: str = ""


@dataclass
class Item:
    """A heading, a paragraph, or a figure with its title and pictures; `heading` is the one it stands under."""

    kind: str
    text: str
    heading: str
    pictures: list[Picture] = field(default_factory=list)


@dataclass
class Page:
    """One page: its title, the title of the page above it, and its items without the title itself."""

    title: str
    parent: str
    items: list[Item]


def read_page(text: str) -> Page:
    """The page in that HTML. Navigation, indexes, code and table headers are left out; numbering is cut off."""
    parser = _Parser()
    parser.feed(text)
    parser.close()
    items = parser.items
    if items and items[0].kind == "heading" and items[0].text == parser.title:
        items = items[1:]
    return Page(parser.title, parser.parent, items)


def unnumbered(text: str) -> str:
    """ "11.16. Softglow" -> "Softglow", "Figure 17.240. Example" -> "Example"."""
    return _NUMBERING.sub("", " ".join(text.split())).strip()


class _Parser(HTMLParser):
    """Collects text into the innermost open block; a figure collects its title, pictures and captions itself."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = self.parent = ""
        self.items: list[Item] = []
        self._open: list[tuple[str, str]] = []  # tag and its role: skip, figure, caption, block or ""
        self._text: list[str] = []
        self._figure: Item | None = None
        self._heading = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if tag == "link" and values.get("rel") == "up":
            self.parent = unnumbered(values.get("title", ""))
        if tag == "img" and not self._inside("skip"):
            self._picture(values.get("src", ""))
        if tag in _VOID:
            return
        if tag in _ENDS_PARAGRAPH and self._open and self._open[-1][0] == "p":
            self.handle_endtag("p")
        role = self._role(tag, values.get("class", ""))
        if role == "figure":
            self._figure = Item("figure", "", self._heading)
        if role in ("block", "caption"):
            self._text = []
        self._open.append((tag, role))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID or all(tag != opened for opened, _ in self._open):
            return
        while True:  # an unclosed element ends with the one around it
            opened, role = self._open.pop()
            self._close(opened, role)
            if opened == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "title" and not self.title:
            self.title = unnumbered(data)
        elif self._inside("block", "caption") and not self._inside("skip"):
            self._text.append(data)

    def _role(self, tag: str, classes: str) -> str:
        names = set(classes.split())
        if tag in _SKIPPED_TAGS or names & _SKIPPED_CLASSES:
            return "skip"
        if tag == "div" and names & {"figure", "informalfigure"}:
            return "figure"
        if tag == "div" and "caption" in names:
            return "caption"
        return "block" if tag in _BLOCKS or tag in _HEADINGS else ""

    def _inside(self, *roles: str) -> bool:
        return any(role in roles for _, role in self._open)

    def _picture(self, file: str) -> None:
        if self._figure is not None and file:
            self._figure.pictures.append(Picture(file))

    def _close(self, tag: str, role: str) -> None:
        if role == "figure" and self._figure is not None:
            if self._figure.pictures:
                self.items.append(self._figure)
            self._figure = None
            return
        if role not in ("block", "caption") or self._inside("skip"):
            return
        text = unnumbered("".join(self._text))
        self._text = []
        if not text:
            return
        if self._figure is not None:
            self._name_figure(text)
        elif tag in _HEADINGS:
            self._heading = text
            self.items.append(Item("heading", text, text))
        else:
            self.items.append(Item("paragraph", text, self._heading))

    def _name_figure(self, text: str) -> None:
        figure = self._figure
        assert figure is not None
        if figure.pictures:
            picture = figure.pictures[-1]
            picture.caption = f"{picture.caption} {text}".strip()
        else:
            figure.text = f"{figure.text} {text}".strip()
