from __future__ import annotations

import pytest

from commonspace.content import Document, Image, Text
from commonspace.errors import DataError
from data_prep.sources.gnome import SOURCE

LONG = "{} words that a reader of this page wants to know about their computer. "
HELP = "usr/share/help"


def page(title: str, *body: str, description: str = "What this page is about, in a sentence.") -> str:
    head = f"<info><desc>{description}</desc></info><title>{title}</title>"
    return f'<page xmlns="http://projectmallard.org/1.0/">{head}{"".join(body)}</page>'


def paragraph(word: str, times: int = 3) -> str:
    return f"<p>{LONG.format(word) * times}</p>"


@pytest.fixture
def root(tmp_path, write, picture):
    figure = '<figure><desc>A photo of the wall.</desc><media type="image" src="figures/wall.png"/></figure>'
    write(
        f"{HELP}/C/gnome-help/color.page",
        page("Colours", paragraph("One"), figure, paragraph("Two"), paragraph("Three")),
    )
    write(f"{HELP}/C/gnome-help/figures/wall.png", picture())
    return tmp_path


def test_documents_and_their_halves_keep_figures_in_place(root, read):
    records, _ = read(SOURCE, root=root)
    [document] = records["document"]
    assert [v.content.parts[0].text for v in document.queries] == [
        "Colours. What this page is about, in a sentence.", "Colours", "What this page is about, in a sentence.",
    ]  # fmt: skip
    [body] = document.positives[0].content.parts
    assert [type(part) for part in body.parts] == [Text, Image, Text, Text]
    assert body.parts[0].text.startswith("One words") and body.parts[2].text == "A photo of the wall."
    [part] = records["document_part"]
    first, second = part.queries[0].content.parts[0], part.positives[0].content.parts[0]
    assert isinstance(first, Document) and isinstance(second, Document)
    assert len(first.parts) + len(second.parts) == 4
    assert document.concept == part.concept == "gnome:color"


def test_a_figure_and_its_heading_lead_to_its_caption(root, read):
    records, _ = read(SOURCE, root=root)
    [figure] = records["figure"]
    picture, heading = figure.queries[0].content.parts
    assert isinstance(picture, Image) and heading.text == "Colours"
    assert figure.positives[0].content.parts[0].text == "A photo of the wall."


def test_a_figure_without_caption_leads_to_the_text_beside_it(root, read, write, picture):
    write(f"{HELP}/C/gnome-help/figures/icon.png", picture(seed=1))
    icon = '<media type="image" src="figures/icon.png"/>'
    rows = f"<p>Press {icon} to stop the machine.</p><p>Unrelated.</p><p>{icon}</p><p>It hums.</p>"
    write(f"{HELP}/C/gnome-help/color.page", page("Noise", rows))
    records, _ = read(SOURCE, root=root)
    assert [record.positives[0].content.parts[0].text for record in records["figure"]] == [
        "Press to stop the machine.", "It hums.",
    ]  # fmt: skip


def test_paragraphs_are_paired_by_position(root, read, write):
    write(f"{HELP}/de/gnome-help/color.page", page("Farben", paragraph("Eins"), paragraph("Zwei"), paragraph("Three"),
          description="Wovon diese Seite handelt, in einem Satz."))  # fmt: skip
    records, drops = read(SOURCE, root=root)
    pairs = {record.queries[0].content.parts[0].text[:5]: record for record in records["crosslingual"]}
    assert set(pairs) == {"One w", "Two w", "What "}
    assert pairs["One w"].positives[0].content.parts[0].text.startswith("Eins")
    assert {record.positives[0].language for record in pairs.values()} == {"de"}
    assert {record.concept for record in pairs.values()} == {"gnome:color"}
    assert drops["crosslingual: not translated"] == 1 and drops["crosslingual: short paragraph"] == 1


def test_a_page_that_lost_a_paragraph_is_not_paired(root, read, write):
    write(f"{HELP}/de/gnome-help/color.page", page("Farben", paragraph("Eins")))
    records, drops = read(SOURCE, root=root)
    assert "crosslingual" not in records and drops["crosslingual: page with another number of paragraphs"] == 1


def test_languages_the_backbone_never_saw_are_dropped(root, read, write):
    write(f"{HELP}/tlh/gnome-help/color.page", page("nguvmey", paragraph("wa")))
    records, drops = read(SOURCE, root=root)
    assert "crosslingual" not in records and drops["crosslingual: tlh is unknown to the text backbone"] == 1


def test_missing_figures_are_counted_and_left_out(root, read):
    (root / HELP / "C/gnome-help/figures/wall.png").unlink()
    records, drops = read(SOURCE, root=root)
    assert "figure" not in records and drops["figure is missing or cannot be read"] == 1
    assert [type(part) for part in records["document"][0].positives[0].content.parts[0].parts] == [Text]


def test_an_empty_package_is_named(tmp_path, read):
    with pytest.raises(DataError, match="no English page"):
        read(SOURCE, root=tmp_path)
