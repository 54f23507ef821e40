"""PDFs to pages, a page to its picture and to its text layer, by PDFium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pypdfium2
from PIL import Image as pil
from pypdfium2 import raw

from commonspace.content import Pdf
from commonspace.errors import ContentError
from commonspace.processing.image import check_pixels

_PDFIUM = threading.Lock()  # it must not be entered twice at once
_DAMAGED = "is no PDF, or damaged or cut off; replace the file"
_CAUSES = {
    raw.FPDF_ERR_PASSWORD: "is protected by a password; save it without one",
    raw.FPDF_ERR_SECURITY: "is encrypted in a way that is not known; save it without encryption",
}
_HYPHENS = str.maketrans("", "", "\x02\ufffe")  # what PDFium writes for the hyphen of a word broken at a line's end


@dataclass(frozen=True)
class Page:
    """A page of a PDF by its index from 0, of `count`; nothing of it is drawn before it is read."""

    pdf: Pdf
    data: bytes = field(repr=False)
    index: int
    count: int

    @property
    def label(self) -> str:
        return f"{self.pdf.label}, page {self.index + 1}"


def first_pages(part: Pdf, most: int) -> list[Page]:
    """The first pages of a PDF in order, at most so many: a file of nothing may claim to have a million.

    Raises ContentError that names the PDF where it cannot be opened or has no pages.
    """
    data = part.read_bytes()
    if not data:
        raise ContentError(f"{part.label}: is empty; replace the file")
    with _opened(part.label, data) as document:
        count = len(document)
    return [Page(part, data, index, count) for index in range(min(count, most))]


def draw_page(page: Page, size: int, max_pixels: int) -> pil.Image:
    """The page on white, its longer side of `size` pixels.

    Raises ContentError that names the page where it is damaged, or holds an image of more than `max_pixels` pixels.
    """
    with _page(page) as opened:
        for found in opened.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]):
            if all(sides := found.get_px_size()):
                check_pixels(f"{page.label}, an image on it", *sides, max_pixels)
        scale = size / max(opened.get_size())
        return opened.render(scale=scale, rev_byteorder=True).to_pil().convert("RGB")


def page_text(page: Page) -> str:
    """The page's text layer, a line a line; empty where it has none, as scanned pages do."""
    with _page(page) as opened:
        layer = opened.get_textpage()
        try:
            text = layer.get_text_bounded()
        finally:
            layer.close()
    lines = (" ".join(line.split()) for line in text.translate(_HYPHENS).splitlines())
    return "\n".join(line for line in lines if line)


@contextmanager
def _page(page: Page) -> Iterator[pypdfium2.PdfPage]:
    with _opened(page.label, page.data) as document:
        opened = document[page.index]
        try:
            yield opened
        finally:
            opened.close()


@contextmanager
def _opened(label: str, data: bytes) -> Iterator[pypdfium2.PdfDocument]:
    with _PDFIUM:
        handle = raw.FPDF_LoadMemDocument64(data, len(data), None)
        if not handle:
            raise ContentError(f"{label}: {_CAUSES.get(raw.FPDF_GetLastError(), _DAMAGED)}")
        try:
            # Opened by hand: PDFium's last error is not of this file where it opens but has no pages.
            with pypdfium2.PdfDocument(handle) as document:
                if not len(document):
                    raise ContentError(f"{label}: has no pages; replace the file")
                yield document
        except pypdfium2.PdfiumError as error:
            raise ContentError(f"{label}: {_DAMAGED} ({str(error).rstrip('.')})") from error
