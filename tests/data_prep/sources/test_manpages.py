from __future__ import annotations

import gzip

import pytest

from commonspace.errors import DataError
from data_prep.sources.manpages import SOURCE

HEADINGS = {"en": ("NAME", "DESCRIPTION"), "de": ("BEZEICHNUNG", "BESCHREIBUNG")}


def man(summary: str, *paragraphs: str, language: str = "en") -> bytes:
    name, description = HEADINGS[language]
    body = "\n.PP\n".join(paragraphs)
    return gzip.compress(f".SH {name}\nls \\- {summary}\n.SH {description}\n{body}\n".encode())


def test_manual_pages_and_their_translations(write, read, tmp_path):
    english = ["List what is in a folder, one name after another. " * 3, "A second paragraph of the same page here."]
    german = [
        "Listet auf, was in einem Ordner ist, Name für Name. " * 3,
        "Ein zweiter Absatz derselben Seite steht hier.",
    ]
    write("usr/share/man/man1/ls.1.gz", man("list folders", *english))
    write("usr/share/man/man1/so.1.gz", gzip.compress(b".so man1/ls.1\n"))
    for language in ("de", "es", "fr", "ja", "pl", "ru"):
        write(f"usr/share/man/{language}/man1/ls.1.gz", man("Ordner auflisten", *german, language="de"))
    write("usr/share/man/de/man1/only.1.gz", man("nur hier zu finden", german[0] * 2, language="de"))
    records, drops = read(SOURCE, root=tmp_path)
    assert {record.concept for record in records["manual"]} == {"man:ls.1", "man:only.1"}
    page = next(record for record in records["manual"] if record.extra == {"page": "ls.1", "language": "de"})
    assert [variant.content.parts[0].text for variant in page.queries] == ["Ordner auflisten", "ls: Ordner auflisten"]
    pairs = [record for record in records["crosslingual"] if record.extra["language"] == "de"]
    assert [(r.queries[0].content.parts[0].text, r.positives[0].content.parts[0].text) for r in pairs] == [
        ("list folders", "Ordner auflisten"), (english[0].strip(), german[0].strip()), (english[1], german[1]),
    ]  # fmt: skip
    assert drops == {"en: page without a summary line": 2, "de: page without an English one": 1}


def test_a_package_without_pages_is_named(read, tmp_path):
    with pytest.raises(DataError, match="holds no page"):
        read(SOURCE, root=tmp_path)
