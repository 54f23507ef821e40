"""GNOME's user help: the paragraphs of each language beyond those of the mini tier, and whole pages in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content, Document, Text
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.interleave import token_estimate, within_budget
from data_prep.keys import record_key
from data_prep.languages import KNOWN_LANGUAGES
from data_prep.mallard import Page, read_page
from data_prep.source import Source
from data_prep.sources import gnome

_NAME = "gnome-languages"
_PAGES_PER_LANGUAGE = 120


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`crosslingual` and `document` records; the concept is the page, as in English."""
    root = folders[gnome.PACKAGE.name] / gnome.HELP
    pages = {path: read_page(path) for path in sorted((root / "C").rglob("*.page"))}
    if not pages:
        raise DataError(f"{_NAME}: {root} holds no English page; delete its folder and build again")
    for language in sorted({path.name for path in root.iterdir() if path.is_dir()} & KNOWN_LANGUAGES):
        pairs = gnome.ordered_pairs(pages, root, language, drops)[gnome.PARAGRAPHS_PER_LANGUAGE :]
        for place, page, english, other in pairs:
            yield Record(
                key=record_key(_NAME, language, place),
                task="crosslingual",
                source=_NAME,
                concept=gnome.page_concept(page),
                queries=(Variant(Content(english), "en"),),
                positives=(Variant(Content(other), language),),
                extra={"page": page.name, "language": language},
            )
        yield from _documents(pages, root, language, drops)


def _documents(pages: Mapping[Path, Page], root: Path, language: str, drops: Counter) -> Iterator[Record]:
    """Pages without their figures, which are the English ones: title and description -> body."""
    written = 0
    for path in sorted(pages, key=lambda path: hashlib.blake2b(f"{language}/{path.name}".encode()).digest()):
        place = path.relative_to(root / "C")
        if written == _PAGES_PER_LANGUAGE or not (root / language / place).is_file():
            continue
        page = read_page(root / language / place)
        text = "\n".join(block.text for block in within_budget(page.blocks, {}) if block.text)
        asked = f"{page.title}. {page.description}".rstrip(". ")
        if token_estimate(text) < gnome.MIN_BODY_TOKENS or not _translated(page, pages[path]):
            drops["document: page without body, or not translated"] += 1
            continue
        written += 1
        yield Record(
            key=record_key(_NAME, language, place.as_posix(), "page"),
            task="document",
            source=_NAME,
            concept=gnome.page_concept(page),
            queries=(Variant(Content(asked), language),),
            positives=(Variant(Content(Document(Text(text))), language),),
            extra={"page": page.name, "language": language, "figures": 0},
        )


def _translated(page: Page, english: Page) -> bool:
    """Whether the title and at least half of the paragraphs are not the English ones."""
    same = set(english.paragraphs) & set(page.paragraphs) - {""}
    return page.title != english.title and 2 * len(same) <= len(page.paragraphs)


SOURCE = Source(
    name=_NAME,
    packages=(gnome.PACKAGE,),
    licence=gnome.SOURCE.licence,
    provenance=gnome.SOURCE.provenance,
    tiers=frozenset({"full"}),
    records=records,
)
