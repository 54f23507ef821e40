from __future__ import annotations

from commonspace.content import Document
from data_prep.sources import gnome, gnome_languages


def mallard(title: str, *paragraphs: str) -> str:
    head = f"<info><desc>{title} in a sentence.</desc></info><title>{title}</title>"
    body = "".join(f"<p>{text}</p>" for text in paragraphs)
    return f'<page xmlns="http://projectmallard.org/1.0/">{head}{body}</page>'


def test_what_the_mini_tier_leaves_of_a_language(write, read, tmp_path, monkeypatch):
    monkeypatch.setattr(gnome, "PARAGRAPHS_PER_LANGUAGE", 2)
    said = [
        f"Word {n} of what a reader wants to know about this computer, and more of it to fill the line. "
        for n in range(4)
    ]
    for language, title in {"C": "Colours", "fr": "Couleurs", "xx": "Xx"}.items():
        paragraphs = [f"{language}: {text * 2}" for text in said]
        write(f"usr/share/help/{language}/gnome-help/color.page", mallard(title, *paragraphs))
    write("usr/share/help/C/gnome-help/same.page", mallard("Same", *said))
    write("usr/share/help/fr/gnome-help/same.page", mallard("Même", *said))
    first, rest = (read(source, root=tmp_path)[0] for source in (gnome.SOURCE, gnome_languages.SOURCE))
    pairs = [{r.positives[0].content.parts[0].text for r in found["crosslingual"]} for found in (first, rest)]
    assert len(pairs[0]) == 2 and not pairs[0] & pairs[1] and any(text.startswith("fr: Word") for text in pairs[1])
    [document] = rest["document"]
    assert document.concept == "gnome:color" and document.positives[0].language == "fr"
    assert isinstance(document.positives[0].content.parts[0], Document)
