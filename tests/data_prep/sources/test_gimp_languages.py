from __future__ import annotations

import pytest

from commonspace.content import Image
from data_prep.sources import gimp_languages


def page(title: str, caption: str, text: str, picture: str = "a") -> str:
    figure = f'<div class="figure"><p class="title">{caption}</p><img src="images/{picture}.png"/></div>'
    return f"<html><head><title>{title}</title></head><body><h3>{title}</h3>{figure}<p>{text}</p></body></html>"


@pytest.fixture
def manual(write, tmp_path, picture):
    for language in ("en", *gimp_languages._PINS):
        root = f"usr/share/gimp/2.0/help/{language}"
        write(f"{root}/images/a.png", picture(seed=1))
        write(f"{root}/images/b.png", picture(seed=2))
        text = " ".join(f"{word}-{language}" for word in "this filter lights the image with a soft glow".split() * 4)
        write(f"{root}/glow.html", page(f"Glow {language}", f"A-{language} glow-{language}", text))
        write(f"{root}/plain.html", page("Plain", "The same caption", "The same text in all of them. " * 3, "b"))
    write("usr/share/gimp/2.0/help/fr/glow.html", "<html><head><title>Lueur</title></head><body><p>x</p></body></html>")
    return tmp_path


def test_a_figure_has_captions_in_the_languages_that_translate_it(manual, read):
    records, drops = read(gimp_languages.SOURCE, root=manual)
    [figure] = records["image_caption"]
    assert figure.concept == "gimp:glow"
    assert {v.language: v.content.parts[0].text for v in figure.positives} == {
        language: f"A-{language} glow-{language}" for language in gimp_languages._PINS if language != "fr"
    }
    assert drops["page that is not laid out as the English one"] == 1


def test_numbers_are_cut_and_english_is_no_translation():
    numbered = ("Figura 16.15. La finestra", "Capitolo 11. Il colore", "図16.15 フィルター", "Top 10 filters")
    assert [gimp_languages._unnumbered(text) for text in numbered] == [
        "La finestra", "Il colore", "フィルター", "Top 10 filters",
    ]  # fmt: skip
    english = "These options are described in “Common Features”."
    assert gimp_languages._untranslated(english, "These options are described in 「Common Features」.")
    assert not gimp_languages._untranslated(english, "Diese Optionen werden in „Common Features“ beschrieben.")


def test_paragraphs_and_pages_that_are_translated(manual, read):
    records, _ = read(gimp_languages.SOURCE, root=manual)
    languages = set(gimp_languages._PINS) - {"fr"}
    assert {record.extra["language"] for record in records["crosslingual"]} == languages
    assert all(
        record.queries[0].content.parts[0].text.startswith("this-en filter-en") for record in records["crosslingual"]
    )
    assert {record.extra["language"] for record in records["document"]} == languages
    [body] = records["document"][0].positives[0].content.parts
    assert any(isinstance(part, Image) for part in body.parts)
