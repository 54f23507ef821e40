"""GNOME user help: pages with figures in English, and the same paragraphs in forty languages."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.interleave import as_document, halves, token_estimate, within_budget
from data_prep.keys import record_key
from data_prep.languages import KNOWN_LANGUAGES
from data_prep.mallard import Block, Page, read_page
from data_prep.pictures import small_picture
from data_prep.source import Package, Source
from data_prep.svg import render_svg

_NAME = "gnome"
HELP = "usr/share/help"
_SVG_SIDE = 224  # px
_MIN_CHARACTERS = 30  # of an English paragraph: shorter ones are menu entries that recur everywhere
_MAX_TOKENS = 200
PARAGRAPHS_PER_LANGUAGE = 600
MIN_BODY_TOKENS = 30
_MIN_HALF_TOKENS = 40

PACKAGE = Package(
    client="apt",
    name="gnome-user-docs",
    version="43.0-2",
    filename="gnome-user-docs_43.0-2_all.deb",
    sha256="0d635a840747958ca84da778b40d341f1155603851f922c9a171f5a181d6a39f",
    bytes=8523220,
)


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """Documents, their halves and their figures out of the English pages, then paragraphs in other languages."""
    root = folders[PACKAGE.name] / HELP
    pages = {path: read_page(path) for path in sorted((root / "C").rglob("*.page"))}
    if not pages:
        raise DataError(f"{_NAME}: {root} holds no English page; delete its folder and build again")
    for path, page in pages.items():
        figures = _figures(page, path.parent, drops)
        yield from _documents(page, path.parent.name, figures, drops)
        yield from _captions(page, path.parent.name, figures, drops)
    yield from _translations(pages, root, drops)


def _figures(page: Page, folder: Path, drops: Counter) -> dict[str, Image]:
    """{path in the page: picture}; drawings are rendered on white."""
    found = {}
    for name in dict.fromkeys(block.figure for block in page.blocks if block.figure):
        path = folder / name
        try:
            svg = path.suffix == ".svg"
            found[name] = (
                Image(render_svg(path.read_bytes(), path.name, _SVG_SIDE)) if svg else small_picture(path, path.name)
            )
        except (OSError, DataError):
            drops["figure is missing or cannot be read"] += 1
    return found


def _documents(page: Page, book: str, figures: Mapping[str, Image], drops: Counter) -> Iterator[Record]:
    blocks = within_budget(page.blocks, figures)
    body = as_document(blocks, figures)
    images = sum(block.figure is not None for block in blocks)
    if body is None or not page.title or sum(token_estimate(block.text) for block in blocks) < MIN_BODY_TOKENS:
        drops["document: page without body"] += 1
        return
    asked = [f"{page.title}. {page.description}", page.title, page.description] if page.description else [page.title]
    yield Record(
        key=record_key(_NAME, book, page.name),
        task="document",
        source=_NAME,
        concept=page_concept(page),
        queries=tuple(Variant(Content(text), "en") for text in asked),
        positives=(Variant(Content(body), "en"),),
        extra={"page": page.name, "figures": images},
    )
    sides = halves(blocks)
    if sides is None or min(sum(token_estimate(block.text) for block in side) for side in sides) < _MIN_HALF_TOKENS:
        drops["document_part: page too short for two halves"] += 1
        return
    first, second = (as_document(side, figures) for side in sides)
    yield Record(
        key=record_key(_NAME, book, page.name),
        task="document_part",
        source=_NAME,
        concept=page_concept(page),
        queries=(Variant(Content(first), "en"),),
        positives=(Variant(Content(second), "en"),),
        extra={"page": page.name, "figures": [sum(b.figure is not None for b in side) for side in sides]},
    )


def _captions(page: Page, book: str, figures: Mapping[str, Image], drops: Counter) -> Iterator[Record]:
    """A figure and the heading it stands under -> its caption, the sentence it stands in, or what follows it."""
    for number, block in enumerate(page.blocks):
        if block.figure is None or block.figure not in figures:
            continue
        text = _said_of(page.blocks, number)
        if not text or not block.heading:
            drops["figure: no caption and no text beside it"] += 1
            continue
        yield Record(
            key=record_key(_NAME, book, page.name, str(number)),
            task="figure",
            source=_NAME,
            concept=page_concept(page),
            queries=(Variant(Content(figures[block.figure], block.heading), "en"),),
            positives=(Variant(Content(text), "en"),),
            extra={"page": page.name, "figure": block.figure, "captioned": bool(block.text)},
        )


def _said_of(blocks: tuple[Block, ...], number: int) -> str:
    if blocks[number].text:
        return blocks[number].text
    before = range(number - 1, -1, -1)
    after = range(number + 1, len(blocks))
    order = after if blocks[number].alone else before
    return next((blocks[place].text for place in order if blocks[place].figure is None), "")


def _translations(pages: Mapping[Path, Page], root: Path, drops: Counter) -> Iterator[Record]:
    for language in sorted(path.name for path in root.iterdir() if path.is_dir() and path.name != "C"):
        if language not in KNOWN_LANGUAGES:
            drops[f"crosslingual: {language} is unknown to the text backbone"] += 1
            continue
        pairs = ordered_pairs(pages, root, language, drops)
        drops["crosslingual: beyond the first paragraphs of its language"] += max(
            0, len(pairs) - PARAGRAPHS_PER_LANGUAGE
        )
        for place, page, english, other in pairs[:PARAGRAPHS_PER_LANGUAGE]:
            yield Record(
                key=record_key(_NAME, language, place),
                task="crosslingual",
                source=_NAME,
                concept=page_concept(page),
                queries=(Variant(Content(english), "en"),),
                positives=(Variant(Content(other), language),),
                extra={"page": page.name, "language": language},
            )


def ordered_pairs(
    pages: Mapping[Path, Page], root: Path, language: str, drops: Counter
) -> list[tuple[str, Page, str, str]]:
    """All aligned paragraphs of a language, in an order that spreads them over its pages."""
    pairs = [pair for path, page in pages.items() for pair in aligned_paragraphs(path, page, root, language, drops)]
    return sorted(pairs, key=lambda pair: hashlib.blake2b(pair[0].encode(), digest_size=8).digest())


def aligned_paragraphs(
    path: Path, page: Page, root: Path, language: str, drops: Counter
) -> Iterator[tuple[str, Page, str, str]]:
    """(place, page, English, other) by position, where both pages have as many paragraphs."""
    place = path.relative_to(root / "C")
    other = root / language / place
    if not other.is_file():
        return
    translated = read_page(other)
    if len(translated.paragraphs) != len(page.paragraphs):
        drops["crosslingual: page with another number of paragraphs"] += 1
        return
    for number, (one, two) in enumerate(zip(page.paragraphs, translated.paragraphs, strict=True)):
        if len(one) < _MIN_CHARACTERS or not two:
            drops["crosslingual: short paragraph"] += 1
        elif one == two:
            drops["crosslingual: not translated"] += 1
        elif max(token_estimate(one), token_estimate(two)) > _MAX_TOKENS:
            drops["crosslingual: long paragraph"] += 1
        else:
            yield f"{place.as_posix()}/{number}", page, one, two


def page_concept(page: Page) -> str:
    """All that is on a page, in any language, lies on one side."""
    return f"{_NAME}:{page.name}"


SOURCE = Source(
    name=_NAME,
    packages=(PACKAGE,),
    licence="CC-BY-SA-3.0",
    provenance="Debian gnome-user-docs 43.0-2: the GNOME and the system administration help, with translations",
    tiers=frozenset({"tiny", "mini"}),
    records=records,
)
