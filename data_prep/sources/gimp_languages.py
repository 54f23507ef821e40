"""GIMP's manual in ten languages: captions of its figures, whole pages, and paragraphs beside the English ones.

Of the translations that Debian packs these are those of which over half of the paragraphs are translated.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.help_pages import Page, read_page
from data_prep.interleave import token_estimate
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.sources import gimp

_NAME = "gimp-languages"
_VERSION = "2.10.34-2"
_PAIRS_PER_LANGUAGE = 500
_PAGES_PER_LANGUAGE = 60
_MIN_CHARACTERS = 30
_MAX_TOKENS = 200
_ENGLISH_SHARE = 0.6  # of the words of a paragraph that are the English ones: then it is not translated
# "Figura 16.15. ", "Capitolo 11. ", "図16.15 ": each language numbers its figures and chapters in its own words.
_NUMBERING = re.compile(r"^(?:[^\W\d]{2,12}\s?\d+(?:\.\d+)*\.\s+|図\s?\d+(?:\.\d+)*[.。]?\s*)")
_PINS = {
    "ca": ("a3f29be92f5a05439e25e227ba738a9c47a94b1835fa7c16837200175812aa4a", 50333776),
    "de": ("06d1f51828e0c68d373bbdd0d34c695e6405062143cd612407cd0fcf9531c199", 51882324),
    "el": ("586bc229797ff64bc70da5c1774d7cf6d28bbd3c7eaae115f55e6baee61fe776", 46903940),
    "es": ("4c1cd250dd4196d183439acc1c70d313bb4104658458181f93898bc1d7ae0a8e", 50008584),
    "fr": ("6f1409dc1078f6660490a399e6da0a37cb31c4224b66da400fdf2148c33e4cf6", 51881612),
    "it": ("7c678b0dc76af92ed5ec86838cc21de663a731291c14105c297a136566cc14ae", 54447948),
    "ja": ("75cef98ec1bdf8d1440da8dc55c6a3dd8b5dd03944d7adc80ba727061e681436", 48498820),
    "nn": ("acc56c533e67403092f0235d75434d7097441005255496d10f4782d998900a6a", 45073768),
    "pt_BR": ("816835f4dae19c99b1ead7347e33d60f18c043abc0ace131796320346a5549bc", 51709976),
    "ru": ("6cc1afc044beda47a616cd2627ac5941bcca7ef7beb5edde7aa3b41cc61c3edd", 49821464),
}


def _package(language: str) -> Package:
    name, (sha256, size) = f"gimp-help-{language.lower().replace('_', '-')}", _PINS[language]
    return Package("apt", name, _VERSION, f"{name}_{_VERSION}_all.deb", sha256, size)


_PACKAGES = {language: _package(language) for language in _PINS}
_ENGLISH = gimp.SOURCE.packages[0]


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`image_caption`, `crosslingual` and `document` records; the concept is the page, as in English."""
    english_root = folders[_ENGLISH.name] / "usr/share/gimp/2.0/help/en"
    english = _pages(english_root)
    captions: dict[tuple[str, int, int], dict[str, str]] = {}
    for language, package in _PACKAGES.items():
        root = folders[package.name] / f"usr/share/gimp/2.0/help/{language}"
        pages = {name: page for name, page in _pages(root).items() if name in english}
        for place, text in _captions(english, pages, drops):
            captions.setdefault(place, {})[language] = text
        yield from _pairs(language, english, pages, drops)
        yield from _documents(language, root, english, pages, drops)
    yield from _figures(english_root, english, captions, drops)


def _pages(root: Path) -> dict[str, Page]:
    paths = [path for path in sorted(root.glob("*.html")) if path.name not in gimp.PASSED_OVER]
    if not paths:
        raise DataError(f"{_NAME}: {root} holds no page; delete its package's folder and build again")
    return {path.stem: read_page(path.read_text(encoding="utf-8", errors="replace")) for path in paths}


def _captions(
    english: Mapping[str, Page], pages: Mapping[str, Page], drops: Counter
) -> Iterator[tuple[tuple[str, int, int], str]]:
    """((page, item, picture), caption) where a figure stands in the same place and its caption is another."""
    for name, page in pages.items():
        if [item.kind for item in page.items] != [item.kind for item in english[name].items]:
            drops["page that is not laid out as the English one"] += 1
            continue
        for position, (item, original) in enumerate(zip(page.items, english[name].items, strict=True)):
            for number, (picture, other) in enumerate(zip(item.pictures, original.pictures, strict=False)):
                caption = _unnumbered(gimp.caption_of(item, picture))
                if caption and not _untranslated(gimp.caption_of(original, other), caption):
                    yield (name, position, number), caption


def _figures(
    root: Path, english: Mapping[str, Page], captions: Mapping[tuple[str, int, int], Mapping[str, str]], drops: Counter
) -> Iterator[Record]:
    """One row a figure of the English manual: its captions in the other languages, in an order drawn by hash."""
    open_image = gimp.opener(root, drops)
    shown = Counter(file for page in english.values() for file in {item.file for item in gimp.pictures_of(page)})
    for (name, position, number), texts in captions.items():
        file = english[name].items[position].pictures[number].file
        if len(texts) < 2 or shown[file] >= gimp.EVERYWHERE or (image := open_image(file)) is None:
            drops["figure that many pages share, or with captions in fewer than two languages"] += 1
            continue
        order = sorted(texts, key=lambda code, place=(name, position, number): _order(*map(str, place), code))
        yield Record(
            key=record_key(_NAME, name, str(position), str(number)),
            task="image_caption",
            source=_NAME,
            concept=f"gimp:{name}",
            queries=(Variant(Content(image)),),
            positives=tuple(Variant(Content(texts[code]), code) for code in order),
            extra={"page": name},
        )


def _pairs(language: str, english: Mapping[str, Page], pages: Mapping[str, Page], drops: Counter) -> Iterator[Record]:
    """Headings and paragraphs in the same place of pages that are laid out alike."""
    found = []
    for name, page in pages.items():
        if [item.kind for item in page.items] != [item.kind for item in english[name].items]:
            continue
        for number, (one, two) in enumerate(zip(english[name].items, page.items, strict=True)):
            tokens = max(token_estimate(one.text), token_estimate(two.text))
            usable = one.kind == "paragraph" and len(one.text) >= _MIN_CHARACTERS and tokens <= _MAX_TOKENS
            if usable and two.text and not _untranslated(one.text, two.text):
                found.append((name, number, one.text, two.text))
    found.sort(key=lambda pair: _order(pair[0], str(pair[1])))
    drops[f"beyond {_PAIRS_PER_LANGUAGE} paragraphs of a language"] += max(0, len(found) - _PAIRS_PER_LANGUAGE)
    for name, number, original, text in found[:_PAIRS_PER_LANGUAGE]:
        yield Record(
            key=record_key(_NAME, language, name, str(number)),
            task="crosslingual",
            source=_NAME,
            concept=f"gimp:{name}",
            queries=(Variant(Content(original), "en"),),
            positives=(Variant(Content(text), language),),
            extra={"page": name, "language": language},
        )


def _documents(
    language: str, root: Path, english: Mapping[str, Page], pages: Mapping[str, Page], drops: Counter
) -> Iterator[Record]:
    """Title -> the page with its own figures, of pages that have one and are mostly translated."""
    open_image, written = gimp.opener(root, drops), 0
    for name in sorted(pages, key=lambda name: _order(language, name)):
        page, original = pages[name], {item.text for item in english[name].items}
        same = sum(item.text in original for item in page.items if item.text)
        if written == _PAGES_PER_LANGUAGE or not gimp.pictures_of(page) or page.title == english[name].title:
            continue
        document = gimp.page_document(page.items, open_image) if 2 * same <= len(page.items) else None
        if document is None:
            drops["document: page without enough text, or not translated"] += 1
            continue
        written += 1
        yield Record(
            key=record_key(_NAME, language, name, "whole"),
            task="document",
            source=_NAME,
            concept=f"gimp:{name}",
            queries=(Variant(Content(_unnumbered(page.title)), language),),
            positives=(Variant(Content(document), language),),
            extra={"page": name, "language": language},
        )


def _unnumbered(text: str) -> str:
    return _NUMBERING.sub("", text)


def _untranslated(english: str, other: str) -> bool:
    """Whether most words of a text are those of the English one."""
    known, words = set(english.split()), other.split()
    return not words or sum(word in known for word in words) >= _ENGLISH_SHARE * len(words)


def _order(*parts: str) -> bytes:
    return hashlib.blake2b("/".join(parts).encode(), digest_size=8).digest()


SOURCE = Source(
    name=_NAME,
    packages=(_ENGLISH, *_PACKAGES.values()),
    licence="GFDL-1.2 or later",
    provenance="GIMP user manual 2.10.34 in ten languages, as packed by Debian",
    tiers=frozenset({"full"}),
    records=records,
)
