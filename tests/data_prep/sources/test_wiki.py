from __future__ import annotations

import json
from pathlib import Path

import pytest

from commonspace.errors import DataError
from data_prep.sources.wiki import _FILE, MAX_WORDS, SOURCE, cut_words

_LONG = "Owls are birds of the night that hunt alone and see well in the dark. "


def test_articles_become_summaries(write, read, tmp_path: Path) -> None:
    articles = {
        "Owl": {"title": "Owl", "description": "Bird of\nprey", "extract": _LONG * 40, "topic": "Life"},
        "Bare": {"title": "Bare", "description": None, "extract": _LONG},
        "Stub": {"title": "Stub", "extract": "Too short."},
        "": {"title": "", "extract": _LONG},
        "Odd": "not an object",
    }
    write(_FILE, json.dumps(articles))
    records, drops = read(SOURCE, root=tmp_path)
    owl, bare = records["summary"]
    assert owl.queries[0].content.parts[0].text == "Owl: Bird of prey"
    assert owl.concept == "owl"
    assert owl.extra == {"category": "Life"}
    body = owl.positives[0].content.parts[0].text
    assert MAX_WORDS / 2 < len(body.split()) <= MAX_WORDS
    assert body.endswith("dark.")
    assert (bare.queries[0].content.parts[0].text, bare.extra) == ("Bare", {"category": "Uncategorized"})
    assert drops == {"short extract": 1, "without title": 1}


@pytest.mark.parametrize("text", ["", "[1, 2]", "{"])
def test_a_broken_file_is_named(write, read, tmp_path: Path, text: str) -> None:
    write(_FILE, text)
    with pytest.raises(DataError, match="summaries_en-us"):
        read(SOURCE, root=tmp_path)


def test_words_are_cut_at_a_sentence_or_at_the_limit() -> None:
    assert cut_words("a b. c d", 3) == "a b."
    assert cut_words("a b c d", 3) == "a b c"
    assert cut_words("a  b", 3) == "a  b"
