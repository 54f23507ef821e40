"""HTML to documents: what a reader sees, in the order in which it is seen, and nothing from elsewhere."""

from __future__ import annotations

import base64
import warnings
from pathlib import Path

import pytest

from commonspace.content import Content, Document, Image, Text
from commonspace.errors import ContentError

PIXELS = b"png of a fox"
URI = "data:image/png;base64," + base64.b64encode(PIXELS).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A page's folder, with a file outside it."""
    (tmp_path / "secret.png").write_bytes(b"outside")
    (tmp_path / "page" / "figures").mkdir(parents=True)
    (tmp_path / "page" / "fox.png").write_bytes(PIXELS)
    (tmp_path / "page" / "figures" / "a b.png").write_bytes(b"spaced")
    return tmp_path / "page"


def read(folder: Path, html: str, **options: str) -> Document:
    path = folder / "index.html"
    path.write_text(html, encoding="utf-8")
    return Document.from_html(path, **options)


def shown(document: Document) -> list[str | bytes]:
    return [part.text if isinstance(part, Text) else part.read_bytes() for part in document.parts]


def test_texts_and_figures_in_reading_order(folder: Path):
    document = read(
        folder,
        """<!DOCTYPE html><html><head><title>not shown</title></head><body><h1>Foxes</h1>
        <p>A <b>red</b> fox <img src="fox.png" alt="a fox"> in the
        snow.</p><figure><img src="figures/a%20b.png?size=2#top"><figcaption>Its den</figcaption></figure></body>""",
    )
    assert shown(document) == ["Foxes\nA red fox", PIXELS, "in the snow.", b"spaced", "Its den"]


def test_images_are_named_and_not_read(folder: Path):
    (image,) = read(folder, '<img src="fox.png">').parts
    assert isinstance(image, Image) and image.source == (folder / "fox.png").resolve()


def test_a_document_of_html_is_that_of_its_parts(folder: Path):
    html = read(folder, '<p>above</p><img src="fox.png"><p>below</p>')
    assert Content(html).digest() == Content(Document("above", Image(PIXELS), "below")).digest()


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one</p><p>two</p>", "one\ntwo"),
        ("one<br>two", "one\ntwo"),
        ("<b>o</b>ne\n<i>two</i>\n", "one two"),
        ("<ul><li>one<li>two</ul>", "one\ntwo"),
        ("<table><tr><td>1<td>2<tr><td>3<td>4</table>", "1 2\n3 4"),
        ("<pre>a\n  b</pre>", "a\nb"),
        ("a&nbsp;&lt;b&gt; &eacute;", "a <b> é"),
        ("a<script>alert(1)</script><style>p {}</style><!-- no --><template>no</template>b", "ab"),
        ("a<p hidden>no</p><svg><text>no</text></svg>", "a"),
        ("a<noscript>b</noscript>", "ab"),
        ("<ruby>漢<rt>kan</rt></ruby>字", "漢字"),
        ("a<img>b<img src=''>c", "abc"),
        ("<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><body>a</body></html>", "a"),
        ("index.html", "index.html"),
    ],
)
def test_what_a_browser_shows(html: str, text: str, folder: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shown(read(folder, html)) == [text]


@pytest.mark.parametrize(
    "data",
    [
        "é".encode(),
        b"\xef\xbb\xbf" + "é".encode(),
        b"\xff\xfe" + "é".encode("utf-16le"),
        b'<meta charset="iso-8859-1">\xe9',
        b'<meta charset="no such thing">' + "é".encode(),
        b'<meta charset="utf-16">' + "é".encode(),
        b"\xe9",
    ],
)
def test_encodings(data: bytes):
    assert shown(Document.from_html(b"<p>" + data if data[:1] == b"<" else data)) == ["é"]


def test_embedded_images_need_no_folder():
    svg = "data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'/%3E"
    page = f'a<img src="{URI}">b<img src="{svg}">'.encode()
    assert shown(Document.from_html(page)) == ["a", PIXELS, "b", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]


ELSEWHERE = [
    ("http://example.org/fox.png", "nothing is fetched"),
    ("https://example.org/fox.png", "nothing is fetched"),
    ("//example.org/fox.png", "nothing is fetched"),
    ("file:///etc/passwd", "nothing is fetched"),
    ("../secret.png", "outside the page's folder"),
    ("%2e%2e/secret.png", "outside the page's folder"),
    ("figures/../../secret.png", "outside the page's folder"),
    ("/etc/hostname", "outside the page's folder"),
    ("link.png", "outside the page's folder"),
    ("gone.png", "no such file"),
    ("figures", "no such file"),
    ("a%00b.png", "is no path"),
    ("a" * 5000, "is no path"),
    ("http://[", "is no address"),
    ("data:text/html,hello", "is no image as a data: URI"),
    ("data:image/png;base64", "is no image as a data: URI"),
    ("data:image/png;base64,????", "damaged base64"),
]


@pytest.mark.parametrize(("address", "message"), ELSEWHERE, ids=lambda value: value[:30])
def test_images_from_elsewhere_are_refused_or_their_words(address: str, message: str, folder: Path):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    html = f'a <img src="{address}" alt="red fox"> b'
    with pytest.raises(ContentError, match=rf"index.html: image .*{message}"):
        read(folder, html)
    assert shown(read(folder, html, unreadable="alt")) == ["a red fox b"]


def test_a_page_in_memory_has_no_files():
    with pytest.raises(ContentError, match="fox.html: image 'fox.png': a page in memory has no folder"):
        Document.from_html(b'<img src="fox.png">', name="fox.html")


def test_external_entities_are_words():
    html = b'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/hostname">]><p>a &x; b</p>'
    assert "&x" in shown(Document.from_html(html))[0]


def test_a_page_may_nest_as_deep_as_it_likes():
    assert shown(Document.from_html(b"<div>" * 5000 + b"deep")) == ["deep"]


@pytest.mark.parametrize(
    ("html", "message"),
    [
        (b"", "shows neither a text nor an image"),
        (b"<p> </p>", "shows neither"),
        (b"<![foo[ a", "cannot be read as HTML|shows neither"),  # a bogus comment to later versions of Python
    ],
)
def test_a_page_of_nothing_is_named(html: bytes, message: str):
    with pytest.raises(ContentError, match=f"^page.html: ({message})"):
        Document.from_html(html, name="page.html")


def test_other_errors(tmp_path: Path):
    with pytest.raises(ContentError, match="none.html: cannot be read .*check the path"):
        Document.from_html(tmp_path / "none.html")
    with pytest.raises(ContentError, match="unreadable='skip': use 'error' or 'alt'"):
        Document.from_html(b"a", unreadable="skip")
