"""GIMP's manual in English: figures with captions, and pages whose text and figures belong together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from commonspace.content import Content, Document, Image, Text
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.help_pages import Item, Page, Picture, read_page
from data_prep.keys import record_key
from data_prep.pictures import small_picture
from data_prep.source import Package, Source

_ROOT = "usr/share/gimp/2.0/help/en"
PASSED_OVER = frozenset({"index.html", "gimp-help-index.html", "glossary.html", "bibliography.html"})
MAX_FIGURES = 4
MAX_WORDS = 180  # about 250 tokens
MIN_WORDS = 20
EVERYWHERE = 3  # a picture on this many pages ("Original image") says nothing about any of them


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`image_caption`, `figure`, `document` and `document_part` records; the concept is the page."""
    root = folders["gimp-help-en"] / _ROOT
    paths = [path for path in sorted(root.glob("*.html")) if path.name not in PASSED_OVER]
    drops["index or glossary page"] += len(PASSED_OVER)
    pages = {path.stem: read_page(path.read_text(encoding="utf-8", errors="replace")) for path in paths}
    shown = Counter(file for page in pages.values() for file in {picture.file for picture in pictures_of(page)})
    open_image = opener(root, drops)
    for name, page in pages.items():
        if not page.title:
            drops["page without a title"] += 1
            continue
        yield from _figures(name, page, open_image, shown, drops)
        yield from _documents(name, page, open_image, drops)


def pictures_of(page: Page) -> list[Picture]:
    """All pictures of a page, in its order."""
    return [picture for item in page.items for picture in item.pictures]


def opener(root: Path, drops: Counter) -> Callable[[str], Image | None]:
    """Image files by the name a page uses; each is read once, and None (counted) where it cannot be."""
    known: dict[str, Image | None] = {}

    def open_image(file: str) -> Image | None:
        if file not in known:
            path = Path(os.path.normpath(root / file))
            try:
                if not path.is_relative_to(root):
                    raise DataError(f"{file}: lies outside the manual")
                known[file] = small_picture(path, f"gimp/{file}")
            except DataError:
                drops["figure that cannot be read"] += 1
                known[file] = None
        return known[file]

    return open_image


def caption_of(figure: Item, picture: Picture) -> str:
    """The figure's title and the picture's own caption; either may be all there is."""
    title, caption = figure.text.rstrip("."), picture.caption
    return f"{title}. {caption}" if title and caption and caption != title else title or caption


def _figures(
    name: str, page: Page, open_image: Callable[[str], Image | None], shown: Counter, drops: Counter
) -> Iterator[Record]:
    for position, item in enumerate(page.items):
        for number, picture in enumerate(item.pictures):
            caption = caption_of(item, picture)
            heading = f"{page.title}: {item.heading}" if item.heading not in ("", page.title) else page.title
            following = next((later.text for later in page.items[position + 1 :] if later.kind == "paragraph"), "")
            told = picture.caption or (following if len(following.split()) >= 8 else "") or caption
            if shown[picture.file] >= EVERYWHERE:
                drops["figure that many pages share"] += 1
                continue
            image = open_image(picture.file)
            if image is None:
                continue
            if len(caption.split()) < 3:  # "The result" could stand under any figure
                drops["figure without a caption"] += 1
            else:
                yield _record("image_caption", name, [str(position), str(number)], Content(image), Content(caption))
            if len(told.split()) >= 2:
                query = Content(image, heading)
                yield _record("figure", name, [str(position), str(number)], query, Content(_cut(told)))


def _documents(name: str, page: Page, open_image: Callable[[str], Image | None], drops: Counter) -> Iterator[Record]:
    whole = page_document(page.items, open_image)
    if whole is None:
        drops["page without enough text"] += 1
        return
    title = f"{page.title} ({page.parent})" if page.parent not in ("", page.title) else page.title
    yield _record("document", name, ["whole"], Content(title), Content(whole))
    halves = _halves(page.items, open_image)
    if halves:
        yield _record("document_part", name, ["halves"], Content(halves[0]), Content(halves[1]))
    else:
        drops["page without figures in both halves"] += 1


def page_document(items: Sequence[Item], open_image: Callable[[str], Image | None]) -> Document | None:
    """Text and figures in order, at most `MAX_FIGURES` and `MAX_WORDS`; None below `MIN_WORDS`."""
    parts: list[Text | Image] = []
    words = figures = 0
    for item in items:
        for part in _parts_of(item, open_image):
            if isinstance(part, Image):
                figures += 1
                parts += [part] if figures <= MAX_FIGURES and words < MAX_WORDS else []
            elif words < MAX_WORDS:
                kept = part.text.split()[: MAX_WORDS - words]
                words += len(kept)
                _append_text(parts, " ".join(kept))
    return Document(*parts) if words >= MIN_WORDS else None


def _parts_of(item: Item, open_image: Callable[[str], Image | None]) -> Iterator[Text | Image]:
    """A figure as each picture with its caption behind it, anything else as its text."""
    if item.kind != "figure":
        yield Text(item.text)
    for picture in item.pictures:
        image = open_image(picture.file)
        if image is not None:
            yield image
            yield Text(caption_of(item, picture))


def _append_text(parts: list[Text | Image], text: str) -> None:
    """Paragraphs between two figures are one part, a line each."""
    if text and parts and isinstance(parts[-1], Text):
        parts[-1] = Text(f"{parts[-1].text}\n{text}")
    elif text:
        parts.append(Text(text))


def _halves(items: Sequence[Item], open_image: Callable[[str], Image | None]) -> tuple[Document, Document] | None:
    """The page cut where text and figures stand on both sides, as near to the middle of its text as that goes."""
    totals = [0]
    for item in items:
        totals.append(totals[-1] + len(item.text.split()))
    cuts = sorted(range(1, len(items)), key=lambda cut: abs(2 * totals[cut] - totals[-1]))
    for cut in cuts:
        if any(item.pictures for item in items[:cut]) and any(item.pictures for item in items[cut:]):
            first, second = page_document(items[:cut], open_image), page_document(items[cut:], open_image)
            if _interleaved(first) and _interleaved(second):
                return first, second  # type: ignore[return-value]
    return None


def _interleaved(document: Document | None) -> bool:
    return document is not None and any(isinstance(part, Image) for part in document.parts)


def _cut(text: str) -> str:
    return " ".join(text.split()[:MAX_WORDS])


def _record(task: str, page: str, parts: list[str], query: Content, positive: Content) -> Record:
    return Record(
        key=record_key("gimp", page, *parts),
        task=task,
        source="gimp",
        concept=f"gimp:{page}",
        queries=(Variant(query, None if task == "image_caption" else "en"),),
        positives=(Variant(positive, "en"),),
        extra={"page": page},
    )


SOURCE = Source(
    name="gimp",
    packages=(
        Package(
            client="apt",
            name="gimp-help-en",
            version="2.10.34-2",
            filename="gimp-help-en_2.10.34-2_all.deb",
            sha256="a2deec76763aaf2fcdd197bac0736cdcb0770ba993d48d233329e1c92b0bfe36",
            bytes=49612664,
        ),
    ),
    licence="GFDL-1.2 or later",
    provenance="GIMP user manual 2.10.34, as packed by Debian",
    tiers=frozenset({"mini"}),
    records=records,
)
