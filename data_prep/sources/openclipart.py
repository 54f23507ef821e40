"""Openclipart as packed by Debian: public domain drawings with a title and keywords, noisy."""

from __future__ import annotations

import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.source import Package, Source
from data_prep.split import concept
from data_prep.svg import render_svg

_ROOT = "usr/share/openclipart/svg"
_METADATA = re.compile(r"<metadata.*?</metadata>", re.DOTALL)
_TITLE = re.compile(r"<(?:cc:)?Work.*?<dc:title>(.*?)</dc:title>", re.DOTALL)
_SUBJECT = re.compile(r"<dc:subject>(.*?)</dc:subject>", re.DOTALL)
_KEYWORD = re.compile(r"<rdf:li>(.*?)</rdf:li>", re.DOTALL)
# Keywords that say where a file was uploaded, not what it shows.
_EMPTY_KEYWORDS = frozenset(
    "hash icon icons theme unsorted special computer externally_generated signs_and_symbols magick element 11".split()
)
_CREDIT = re.compile(r"^Clip ?art by [^-]*(- )?", re.IGNORECASE)
_COLLECTION = 5  # a title on this many files names the set they came in
_MAX_KEYWORDS = 6
_THEME_NAMES = re.compile(r"-theme/.*\b(applications|apps|mimetypes?|mime-types)/")
# Uploaders signed their files: "pop_can_gerald_g_01", "clock_architetto_francesc_01".
_SIGNATURE = re.compile(
    r"(_(architetto|benji_p|nicu_b|jon_phil|jarno_va|gerald_g|jean[-_]vic|juliane_k|linda_k|ganson|dan_gerh|yves_g|susan_p).*)?"
    r"[_\W\d]*$"
)


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """One `image_caption` record per drawing; positives are "title (keywords)" and the bare title."""
    root = folders["openclipart-svg"] / _ROOT
    files = [path for path in sorted(root.rglob("*.svg")) if not path.is_symlink()]
    described = {path: describe(path.read_bytes()) for path in files}
    titles = Counter(title for title, _ in described.values())
    seen: set[bytes] = set()
    for path in files:
        title, keywords = described[path]
        relative = path.relative_to(root).as_posix()
        name = title if titles[title] < _COLLECTION and title else file_name(path.stem)
        reason = _unusable(relative, title, name) or _repeated(path, seen)
        if reason:
            drops[reason] += 1
            continue
        try:
            picture = render_svg(path.read_bytes(), relative)
        except DataError:
            drops["drawing that cannot be rendered"] += 1
            continue
        yield _record(relative, tidy(name), keywords, picture)


def describe(svg: bytes) -> tuple[str, list[str]]:
    """Title and keywords out of the drawing's metadata; both may be empty."""
    metadata = _METADATA.search(svg.decode("utf-8", "replace"))
    title = _TITLE.search(metadata[0]) if metadata else None
    subject = _SUBJECT.search(metadata[0]) if metadata else None
    words = [_plain(word) for word in _KEYWORD.findall(subject[1])] if subject else []
    kept = [word.replace("_", " ") for word in words if word and word.casefold() not in _EMPTY_KEYWORDS]
    return _plain(title[1]) if title else "", list(dict.fromkeys(kept))


def file_name(stem: str) -> str:
    """What a file's name says it shows: words without numbers and the uploader's signature."""
    return _SIGNATURE.sub("", stem.casefold())


def tidy(name: str) -> str:
    """A name as text: no underscores, no running numbers, single spaces."""
    return " ".join(re.sub(r"[_\-.]+|(?<=[a-zA-Z_\- ])\d+\b", " ", name).split())


def _plain(text: str) -> str:
    plain = html.unescape(html.unescape(re.sub(r"<[^>]*>", " ", text)))  # "B &amp;amp; W": some were escaped twice
    return _CREDIT.sub("", " ".join(plain.split()))


def _unusable(relative: str, title: str, name: str) -> str | None:
    """Why a drawing says nothing: generated stars, bare gradients, a program's icon, a name without words."""
    if "gramastar" in title:
        return "generated star"
    if "gradient" in relative.rsplit("/", 1)[-1] or "/gradients/" in relative:
        return "gradient"
    if "/cards/" in relative and title.casefold() == "card":
        return "playing card named by a code"
    if _THEME_NAMES.search(relative):
        return "icon of a program or file type"
    letters = sum(char.isalpha() for char in tidy(name))
    if letters < 3 or re.fullmatch(r"(?=.*\d)[0-9a-f]{5,}", name.casefold()):
        return "name without words"
    return None


def _repeated(path: Path, seen: set[bytes]) -> str | None:
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    if digest in seen:
        return "byte-identical drawing"
    seen.add(digest)
    return None


def _record(relative: str, name: str, keywords: list[str], picture: bytes) -> Record:
    known = {concept(name)}
    listed = [word for word in keywords if concept(word) not in known][:_MAX_KEYWORDS]
    captions = [f"{name} ({', '.join(listed)})", name] if listed else [name]
    return Record(
        key=record_key("openclipart", relative.removesuffix(".svg")),
        task="image_caption",
        source="openclipart",
        concept=concept(name),
        queries=(Variant(Content(Image(picture, name=f"openclipart/{relative}"))),),
        positives=tuple(Variant(Content(caption), "en") for caption in captions),
        extra={"category": relative.split("/")[0], "style": "drawing"},
    )


SOURCE = Source(
    name="openclipart",
    packages=(
        Package(
            client="apt",
            name="openclipart-svg",
            version="1:0.18+dfsg-19",
            filename="openclipart-svg_1%3a0.18+dfsg-19_all.deb",
            sha256="989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
            bytes=24919068,
        ),
    ),
    licence="Public domain",
    provenance="Open Clip Art Library 0.18, as packed by Debian",
    tiers=frozenset({"mini"}),
    records=records,
)
