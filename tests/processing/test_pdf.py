from __future__ import annotations

import io
import threading

import numpy as np
import pypdfium2
import pytest

from commonspace.content import Pdf
from commonspace.errors import ContentError
from commonspace.processing.pdf import draw_page, first_pages, page_text
from tests.media import pdf_bytes, pdf_page

MOST = 10_000


def draw(data: bytes, index: int = 0, size: int = 64, most: int = MOST) -> np.ndarray:
    return np.asarray(draw_page(first_pages(Pdf(data, name="a.pdf"), 6)[index], size, most))


def test_pages_in_order():
    data = pdf_bytes([pdf_page(grey=shade) for shade in (0, 0.4, 0.8)])
    assert [int(draw(data, index)[16, 32, 0]) for index in range(3)] == [0, 102, 204]
    assert [page.label for page in first_pages(Pdf(data, name="a.pdf"), 6)] == [f"a.pdf, page {n}" for n in (1, 2, 3)]


def test_colours_are_red_green_blue_on_white():
    picture = draw(pdf_bytes([b"1 0 0 rg 0 0 100 100 re f"]))
    assert picture[16, 8].tolist() == [255, 0, 0] and picture[16, 56].tolist() == [255] * 3


@pytest.mark.parametrize(("width", "height"), [(200, 100), (14_400, 1), (2, 3), (14_400, 14_400)])
def test_the_longer_side_is_what_was_asked_for_whatever_the_page_says(width: float, height: float):
    picture = draw(pdf_bytes([b""], width, height))
    assert max(picture.shape[:2]) in (64, 65) and min(picture.shape[:2]) >= 1
    short = 64 * min(width, height) / max(width, height)
    assert abs(min(picture.shape[:2]) - max(short, 1)) <= 1


def test_a_turned_page_is_upright():
    data = pdf_bytes([b"0 g 0 0 200 50 re f"]).replace(b"/MediaBox", b"/Rotate 90/MediaBox")  # black below, so left
    picture = draw(data)
    assert picture.shape[0] > picture.shape[1]
    assert picture[32, 4, 0] < 50 and picture[32, -4, 0] > 200


def test_the_text_layer_is_read_where_there_is_one():
    lines = b"BT /F1 12 Tf 10 50 Td (two  words and an exam-) Tj 0 -14 Td (ple in another line) Tj ET"
    first, second, third = first_pages(Pdf(pdf_bytes([lines, pdf_page(grey=0.5), pdf_page("three")])), 6)
    assert page_text(first) == "two words and an example in another line"
    assert page_text(second) == "" and page_text(third) == "three"


def test_lines_stay_lines():
    lines = b"BT /F1 12 Tf 10 50 Td (above.) Tj 0 -14 Td (below.) Tj ET"
    assert page_text(first_pages(Pdf(pdf_bytes([lines])), 6)[0]) == "above.\nbelow."


def _zero_pages() -> bytes:
    buffer = io.BytesIO()
    pypdfium2.PdfDocument.new().save(buffer)
    return buffer.getvalue()


def _encrypted() -> bytes:
    entry = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<" + b"ab" * 32 + b">/U<" + b"cd" * 32 + b">>>/ID[<00><00>]"
    return pdf_bytes([b""]).replace(b"/Root 1 0 R", b"/Root 1 0 R" + entry)


def _unknown_encryption() -> bytes:
    return pdf_bytes([b""]).replace(b"/Root 1 0 R", b"/Root 1 0 R/Encrypt<</Filter/Secret/V 1>>/ID[<00><00>]")


BAD = [
    (b"", "is empty"),
    (b"just some words", "is no PDF, or damaged"),
    (pdf_bytes([b""])[:250], "is no PDF, or damaged"),
    (_zero_pages(), "has no pages"),
    (_encrypted(), "is protected by a password; save it without one"),
    (_unknown_encryption(), "is encrypted in a way that is not known"),
]


@pytest.mark.parametrize(
    ("data", "message"), BAD, ids=["nothing", "text", "cut off", "no pages", "password", "unknown encryption"]
)
def test_bad_input_is_named(data: bytes, message: str):
    with pytest.raises(ContentError, match=rf"^shard.tar:key.0.pdf: {message}"):
        first_pages(Pdf(data, name="shard.tar:key.0.pdf"), 6)


def test_the_cause_is_that_of_this_file_and_not_of_the_one_before():
    for data, message in (*BAD, *reversed(BAD)):
        with pytest.raises(ContentError, match=message):
            first_pages(Pdf(data), 6)


def test_a_broken_page_is_named_and_the_others_are_drawn():
    data = pdf_bytes([b"", b""]).replace(b"/Kids[4 0 R 6 0 R]", b"/Kids[4 0 R 9 0 R]")
    assert draw(data).shape == (32, 64, 3)
    with pytest.raises(ContentError, match="^a.pdf, page 2: is no PDF, or damaged"):
        draw(data, 1)


def test_no_more_pages_than_asked_for():
    data = pdf_bytes([b""] * 4)
    assert [(page.index, page.count) for page in first_pages(Pdf(data), 2)] == [(0, 4), (1, 4)]


def test_a_picture_too_large_to_decode_is_refused_by_its_header():
    data = pdf_bytes([b"q 50 0 0 50 0 0 cm /Im Do Q", b""], image="60000x50000")
    with pytest.raises(ContentError, match="a.pdf, page 1, an image on it: has 60000 x 50000 = 3000000000 pixels"):
        draw(data)
    assert draw(data, 1).shape == (32, 64, 3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ContentError, match="none.pdf: cannot be read"):
        first_pages(Pdf(tmp_path / "none.pdf"), 6)


def test_threads_do_not_meet_in_pdfium():
    data = pdf_bytes([pdf_page(f"w{n}", grey=0.5) for n in range(4)])
    expected, found = [draw(data, index) for index in range(4)], {}

    def work(number: int) -> None:
        found[number] = [draw(data, index) for index in range(4)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(drawn, expected) for drawn in found.values())
