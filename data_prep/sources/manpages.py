"""Manual pages in English and six other languages: what a page is for -> its description, and translations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.interleave import token_estimate
from data_prep.keys import record_key
from data_prep.man_pages import ManPage, read_man_page
from data_prep.source import Package, Source
from data_prep.sources.wiki import cut_words

_NAME = "manpages"
_MAX_WORDS = 180
_MIN_WORDS = 25
_MIN_CHARACTERS = 30  # of a paragraph that is paired with its translation
_MAX_TOKENS = 200


# Language, version, sha256 and bytes by package.
_PINS = {
    "manpages": ("en", "6.03-2", "efa1ba4cd19ad7baeae959c9209a7eb74be2ebb858bcabb412597bfc9f588c91", 1331652),
    "manpages-dev": ("en", "6.03-2", "96f55cb5e26231d5567c89b692bced63825a14a2d5bd18fdf16ea2ed44eb9838", 2030264),
    "manpages-de": ("de", "4.18.1-1", "37d2e7ee51f22952aecec3af93647ff59194a3c74bb7a694560f49c7f7ab3978", 3615560),
    "manpages-es": ("es", "4.18.1-1", "d21e9f85e487f149ae45b5c525b2b1a70ae7fd38d4b05b47c8753042c66f4c2b", 1018264),
    "manpages-fr": ("fr", "4.18.1-1", "ec29759cc0e4a44dc7719c1e32869d0060667049e584f09556f0d982b969ea33", 1899104),
    "manpages-ja": (
        "ja",
        "0.5.0.0.20221215+dfsg-1",
        "4d270e9a1e83be4de0c072a110892a17dc9caa4b501257324006ac28d82c5743",
        3826632,
    ),
    "manpages-pl": ("pl", "1:4.18.1-1", "31e518ea8331b5204d4fd0032037f96af1ba94a5afa4f0585dca1996b270cdf9", 1581200),
    "manpages-ru": ("ru", "4.18.1-1", "5d5821dad5840652ba9c1c6b85bdc785c1fc52148a71c18fab6658c9659244c0", 1154124),
}


def _packages() -> dict[str, list[Package]]:
    found: dict[str, list[Package]] = {}
    for name, (language, version, sha256, size) in _PINS.items():
        file = f"{name}_{version.replace(':', '%3a')}_all.deb"
        found.setdefault(language, []).append(Package("apt", name, version, file, sha256, size))
    return found


_PACKAGES = _packages()


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`manual` records in each language, `crosslingual` ones of what has an English page; the concept is the page."""
    pages = {language: _pages(language, folders, drops) for language in _PACKAGES}
    for language, found in pages.items():
        for place, page in found.items():
            body = cut_words(" ".join(page.paragraphs), _MAX_WORDS)
            if token_estimate(body) < _MIN_WORDS:
                drops[f"{language}: page without a description"] += 1
                continue
            yield Record(
                key=record_key(_NAME, language, place),
                task="manual",
                source=_NAME,
                concept=f"man:{place}",
                queries=(
                    Variant(Content(page.summary), language),
                    Variant(Content(f"{page.names}: {page.summary}"), language),
                ),
                positives=(Variant(Content(_shortened(body)), language),),
                extra={"page": place, "language": language},
            )
        if language != "en":
            yield from _translations(language, pages["en"], found, drops)


def _pages(language: str, folders: Mapping[str, Path], drops: Counter) -> dict[str, ManPage]:
    """{"ls.1": page}; pages that only refer to another are left out."""
    inner = "usr/share/man" if language == "en" else f"usr/share/man/{language}"
    found: dict[str, ManPage] = {}
    for package in _PACKAGES[language]:
        root = folders[package.name] / inner
        paths = sorted(root.glob("man*/*.gz"))
        if not paths:
            raise DataError(f"{_NAME}: {root} holds no page; delete its folder and build again")
        for path in paths:
            page = read_man_page(path)
            if page is None:
                drops[f"{language}: page without a summary line"] += 1
            else:
                found.setdefault(path.name.removesuffix(".gz"), page)
    return found


def _translations(
    language: str, english: Mapping[str, ManPage], other: Mapping[str, ManPage], drops: Counter
) -> Iterator[Record]:
    """The summary line, and the description's paragraphs where both pages have as many."""
    for place, page in other.items():
        if place not in english:
            drops[f"{language}: page without an English one"] += 1
            continue
        pairs = [(english[place].summary, page.summary)]
        if len(page.paragraphs) == len(english[place].paragraphs):
            pairs += zip(english[place].paragraphs, page.paragraphs, strict=True)
        for number, (one, two) in enumerate(pairs):
            tokens = max(token_estimate(one), token_estimate(two))
            if (number and len(one) < _MIN_CHARACTERS) or one == two or tokens > _MAX_TOKENS:
                drops["crosslingual: short, long or untranslated paragraph"] += 1
                continue
            yield Record(
                key=record_key(_NAME, language, place, str(number)),
                task="crosslingual",
                source=_NAME,
                concept=f"man:{place}",
                queries=(Variant(Content(one), "en"),),
                positives=(Variant(Content(two), language),),
                extra={"page": place, "language": language},
            )


def _shortened(text: str) -> str:
    """Japanese has no spaces to cut words at: as many characters as the budget of tokens allows."""
    share = 2 * _MAX_TOKENS / token_estimate(text)
    return text if share >= 1 else text[: int(len(text) * share)]


SOURCE = Source(
    name=_NAME,
    packages=tuple(package for packages in _PACKAGES.values() for package in packages),
    licence="mixed free licences page by page (GPL, BSD, verbatim documentation licences)",
    provenance="Linux man-pages 6.03 and translations of manpages-l10n 4.18.1 and JM, as packed by Debian",
    tiers=frozenset({"full"}),
    records=records,
)
