from __future__ import annotations

from pathlib import Path

from commonspace.content import Document, Image, Text
from data_prep.sources.gimp import MAX_FIGURES, MAX_WORDS, SOURCE

_ROOT = "usr/share/gimp/2.0/help/en"
_PARAGRAPH = "<p>This filter lights the image with a soft glow, like the old trick of smearing something on a lens.</p>"


def _figure(file: str, title: str = "", caption: str = "") -> str:
    return (
        f'<div class="figure"><p class="title">{title}</p><div class="mediaobject"><img src="images/{file}"/>'
        f'<div class="caption"><p>{caption}</p></div></div></div>'
    )


def _page(title: str, *blocks: str) -> str:
    return (
        f'<html><head><title>{title}</title><link rel="up" title="11. Filters"/></head><body>'
        f"<h3>{title}</h3>{''.join(blocks)}</body></html>"
    )


def test_figures_pages_and_halves(write, read, picture, tmp_path: Path) -> None:
    for name in ("a", "b", "c", "shared"):
        write(f"{_ROOT}/images/{name}.png", picture(seed=ord(name[0])))
    write(f"{_ROOT}/images/huge.png", picture((1200, 900), "red"))
    write(f"{_ROOT}/images/broken.png", b"\x89PNG")
    write(
        f"{_ROOT}/glow.html",
        _page(
            "11.16. Glow",
            "<h4>11.16.1. Overview</h4>",
            _figure("a.png", "Figure 1.2. Example of the glow filter", "Filter applied"),
            _PARAGRAPH,
            "<h4>Options</h4>",
            _figure("huge.png", "Options of the filter"),
            _PARAGRAPH,
        ),
    )
    write(f"{_ROOT}/text.html", _page("Text", _PARAGRAPH, _PARAGRAPH))
    write(
        f"{_ROOT}/bad.html",
        _page("Bad", _figure("broken.png", "A broken one here"), _figure("../../../../../../../x.png", "Out")),
    )
    for number in range(3):
        write(
            f"{_ROOT}/s{number}.html", _page(f"S{number}", _figure("shared.png", "", "Original image"), _PARAGRAPH * 2)
        )
    for name in ("index", "glossary"):
        write(f"{_ROOT}/{name}.html", _page(name, _PARAGRAPH * 9))
    records, drops = read(SOURCE, root=tmp_path)
    captions = {record.positives[0].content.parts[0].text: record for record in records["image_caption"]}
    assert set(captions) == {"Example of the glow filter. Filter applied", "Options of the filter"}
    assert captions["Options of the filter"].concept == "gimp:glow"
    told = {
        record.queries[0].content.parts[1].text: record.positives[0].content.parts[0].text
        for record in records["figure"]
    }
    assert told["Glow: Overview"] == "Filter applied"
    assert told["Glow: Options"].startswith("This filter lights")
    documents = {record.concept: record for record in records["document"]}
    assert set(documents) == {"gimp:glow", "gimp:text", "gimp:s0", "gimp:s1", "gimp:s2"}
    glow = documents["gimp:glow"]
    assert glow.queries[0].content.parts[0].text == "Glow (Filters)"
    (body,) = glow.positives[0].content.parts
    assert isinstance(body, Document)
    assert [type(part) for part in body.parts] == [Text, Image, Text, Image, Text]
    assert body.parts[0].text == "Overview"
    assert body.parts[2].text.startswith("Example of the glow filter. Filter applied\nThis filter")
    (halves,) = records["document_part"]
    first, second = halves.queries[0].content.parts[0], halves.positives[0].content.parts[0]
    pictures = [[part for part in half.parts if isinstance(part, Image)] for half in (first, second)]
    assert [len(found) for found in pictures] == [1, 1]
    assert pictures[0][0].source.name == "a.png"
    assert second.parts[0].text == "Options"
    assert drops == {
        "index or glossary page": 4,
        "figure that many pages share": 3,
        "figure that cannot be read": 2,
        "page without enough text": 1,
        "page without figures in both halves": 4,
    }


def test_long_pages_are_cut(write, read, picture, tmp_path: Path) -> None:
    for number in range(7):
        write(f"{_ROOT}/images/{number}.png", picture(seed=number))
    blocks = [_figure(f"{number}.png", f"The figure of number {number}") + _PARAGRAPH for number in range(7)]
    write(f"{_ROOT}/long.html", _page("Long", *blocks, _PARAGRAPH * 20))
    records, _ = read(SOURCE, root=tmp_path)
    body = records["document"][0].positives[0].content.parts[0]
    assert sum(isinstance(part, Image) for part in body.parts) == MAX_FIGURES
    assert sum(len(part.text.split()) for part in body.parts if isinstance(part, Text)) == MAX_WORDS
    for variant in (records["document_part"][0].queries[0], records["document_part"][0].positives[0]):
        half = variant.content.parts[0]
        assert 0 < sum(isinstance(part, Image) for part in half.parts) <= MAX_FIGURES
