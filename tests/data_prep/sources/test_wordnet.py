from __future__ import annotations

import pytest

from commonspace.errors import DataError
from data_prep.sources.wordnet import SOURCE

_NOUNS = """  1 This software and database is being provided to you
02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 001 @ 02083346 n 0000 | a member of the genus Canis that \
has been domesticated by man; "the dog barked all night"
02084072 05 n 01 dogness 0 001 @ 02083346 n 0000 | what a dogness has of itself
02084073 05 n 01 thing 0 000 | some thing
"""
_ADJECTIVES = "00001740 00 a 01 able(p) 0 000 | having the necessary means or skill or authority to do something\n"


@pytest.fixture
def words(write, tmp_path):
    for kind, text in {"noun": _NOUNS, "adj": _ADJECTIVES, "verb": "", "adv": ""}.items():
        write(f"usr/share/wordnet/data.{kind}", text)
    return tmp_path


def said(variants) -> list[tuple[str | None, str]]:
    return [(variant.language, variant.content.parts[0].text) for variant in variants]


def test_what_a_word_means_leads_to_the_words(words, read):
    records, drops = read(SOURCE, root=words)
    found = {record.concept: record for record in records["definition"]}
    assert set(found) == {"dog", "able"}
    assert said(found["dog"].queries) == [("en", "a member of the genus Canis that has been domesticated by man")]
    assert said(found["dog"].positives) == [("en", "dog, domestic dog, Canis familiaris")]
    assert (found["dog"].extra["category"], found["able"].extra["category"]) == ("animal", "adjective")
    assert drops == {"definition that names the word": 1, "definition of a few words": 1}


def test_a_broken_dictionary_is_named(words, read, write):
    write("usr/share/wordnet/data.verb", "oops\n")
    with pytest.raises(DataError, match=r"data\.verb cannot be read"):
        read(SOURCE, root=words)
