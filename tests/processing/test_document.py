from __future__ import annotations

from dataclasses import replace

import pytest

from commonspace.content import Content, Document, Image, Pdf, Text
from commonspace.errors import ContentError
from commonspace.processing.document import Sheets, document_parts, open_documents
from commonspace.processing.pdf import Page
from commonspace.processing.preprocessing import Preprocessing
from tests.media import pdf_bytes

P = Preprocessing(max_images=2, max_pages=3)
FIRST, SECOND, THIRD = (Image(b"", name=name) for name in "abc")


def opened(*parts, cut: bool = False, numbers: Preprocessing = P) -> tuple[list, list[str]]:
    return open_documents(Content(*parts), numbers, cut=cut)


def pdf(pages: int, name: str = "a.pdf") -> Pdf:
    return Pdf(pdf_bytes([b""] * pages), name=name)


def test_blank_texts_are_dropped_and_order_is_kept():
    parts = document_parts(Document("  \n", "title", FIRST, "", "body"), 3)
    assert parts == [Text("title"), FIRST, Text("body")]


def test_a_document_of_nothing_is_refused():
    with pytest.raises(ContentError, match="neither a text nor an image"):
        document_parts(Document(" ", "\n"), 3)


def test_pages_stand_where_the_pdf_stands():
    parts = document_parts(Document("cover", pdf(2), "end"), 3)
    assert [part.index if isinstance(part, Page) else part.text for part in parts] == ["cover", 0, 1, "end"]


def test_images_in_documents_count_as_images():
    """A list of page images is a document too, and its pages are images."""
    for parts in ((FIRST, "x", Document(SECOND, "y", THIRD)), (Document(FIRST, SECOND, THIRD),)):
        with pytest.raises(ContentError, match=r"has 3 images, at most 2 are taken \(max_images\)"):
            opened(*parts)
    assert opened(Document(FIRST, SECOND))[1] == []


def test_each_occurrence_of_an_image_counts():
    kept, notes = opened(FIRST, FIRST, "x", Document(FIRST, "y"), cut=True)
    assert kept == [FIRST, FIRST, Text("x"), Sheets((Text("y"),))] and notes == ["the first 2 of 3 images kept"]


def test_a_document_of_which_nothing_is_left_goes():
    kept, notes = opened(FIRST, SECOND, Document(THIRD), "x", cut=True)
    assert kept == [FIRST, SECOND, Text("x")] and notes


def test_pages_count_over_all_pdfs_of_a_content_and_not_as_images():
    assert opened(FIRST, SECOND, Document(pdf(3)))[1] == []
    with pytest.raises(ContentError, match=r"^a.pdf: has 4 pages, at most 3 are taken \(max_pages\)"):
        opened(Document(pdf(4)))
    with pytest.raises(ContentError, match=r"^a.pdf and b.pdf: has 4 pages"):
        opened(Document(pdf(2), pdf(2, "b.pdf")))
    assert opened(Document(pdf(4)), numbers=replace(P, max_pages=4))[1] == []


def test_the_first_pages_are_kept_and_said():
    kept, notes = opened(Document(pdf(2), "x", pdf(2, "b.pdf"), "y"), cut=True)
    (sheets,) = kept
    shown = [(part.pdf.label, part.index) if isinstance(part, Page) else part.text for part in sheets.inner]
    assert shown == [("a.pdf", 0), ("a.pdf", 1), "x", ("b.pdf", 0), "y"]
    assert notes == ["a.pdf and b.pdf: the first 3 of 4 pages kept"]


def test_images_and_pages_are_both_cut():
    _, notes = opened(FIRST, SECOND, THIRD, Document(pdf(5)), cut=True)
    assert notes == ["the first 2 of 3 images kept", "a.pdf: the first 3 of 5 pages kept"]


def test_a_file_that_claims_a_million_pages_costs_no_more_than_those_that_are_taken():
    part = Pdf(pdf_bytes([b""]).replace(b"/Count 1", b"/Count 1000000"), name="a.pdf")
    with pytest.raises(ContentError, match="^a.pdf: has 1000000 pages"):
        opened(Document(part))
    assert len(document_parts(Document(part), 3)) == 3


def test_six_pages_by_default():
    assert Preprocessing().max_pages == 6
