from __future__ import annotations

import pytest

from data_prep.help_pages import read_page, unnumbered

_PAGE = """<?xml version="1.0"?><html><head><title>11.16. Soft &amp; Glow</title>
<link rel="up" href="a.html" title="11. Artistic Filters" /></head><body>
<div class="navheader"><p>Prev</p><img src="prev.png"/></div>
<h3 class="title"><a id="x"></a>11.16. Soft &amp; Glow</h3>
<div class="toc"><p>Contents</p></div>
<h4 class="title">11.16.1. Overview</h4>
<div class="figure"><p class="title"><strong>Figure 17.240. Example of <span>it</span></strong></p>
 <div class="mediaobject"><img src="a.png" alt="x"/><div class="caption"><p>Original   image</p></div></div>
 <div class="mediaobject"><img src="b.png"><div class="caption"><p>Glow</p><p>applied</p></div></div></div>
<p>Text with an <img src="icon.png"/> icon
 over lines.<p>Unclosed before this one.
<pre>code</pre><table><tr><th>Note</th><td><p>A note.</p></td></tr></table>
<div class="informalfigure"><img src="c.png"/></div><div class="figure"><p>No picture</p></div>
<dl><dt>Radius</dt></dl></body></html>"""


def test_a_page_becomes_its_items_in_order() -> None:
    page = read_page(_PAGE)
    assert (page.title, page.parent) == ("Soft & Glow", "Artistic Filters")
    assert [item.kind for item in page.items] == ["heading", "figure", *["paragraph"] * 3, "figure", "paragraph"]
    heading, figure, text, unclosed, note, informal, term = page.items
    assert heading.text == "Overview"
    assert (figure.text, figure.heading) == ("Example of it", "Overview")
    assert [(picture.file, picture.caption) for picture in figure.pictures] == [
        ("a.png", "Original image"),
        ("b.png", "Glow applied"),
    ]
    assert text.text == "Text with an icon over lines."
    assert unclosed.text == "Unclosed before this one."
    assert note.text == "A note."
    assert informal.pictures[0].file == "c.png"
    assert term.text == "Radius"


@pytest.mark.parametrize(
    "html", ["", "<p>", "</div></p>", "<div class='figure'><img>", "no tags", "<title></title><h1></h1>"]
)
def test_broken_pages_hold_nothing(html: str) -> None:
    assert read_page(html).items == []


def test_numbering_is_cut_and_other_figures_stay() -> None:
    assert unnumbered("Chapter 3. Wilber") == "Wilber"
    assert unnumbered("Figure 17.240.  Example") == "Example"
    assert unnumbered("3D objects") == "3D objects"
    assert unnumbered("A. Z") == "Z"
