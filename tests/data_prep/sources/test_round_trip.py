from __future__ import annotations

import json
from collections import Counter

from data_prep.sources.round_trip import SOURCE, Entry, round_trips
from tests.data_prep.test_qt_resource import write_resource


def pairs(entries, drops=None):
    found = round_trips(entries, Counter() if drops is None else drops)
    return {
        (row.extra["language"], *(side[0].content.parts[0].text for side in (row.queries, row.positives)))
        for row in found
    }


def test_two_english_names_that_three_languages_call_the_same():
    same = {"fr": "crocodile", "es": "cocodrilo", "it": "coccodrillo"}
    entries = [Entry("alligator", "alligator", same), Entry("crocodile", "crocodile", {**same, "de": "Krokodil"})]
    assert pairs(entries) == {("en", "alligator", "crocodile")}
    drops: Counter = Counter()
    again = [*entries, Entry("Crocodile", "crocodile", same)]  # the second dictionary has it too
    assert pairs(again, drops) == pairs(entries) and drops == {"pair that other entries made": 1} | {
        "name that holds the other one": 3
    }
    drops = Counter()
    two = [Entry("crane", "crane", {"fr": "grue", "es": "grúa"}), Entry("hoist", "hoist", {"fr": "grue", "es": "grúa"})]
    assert pairs(two, drops) == set() and drops == {"entries that fewer than 3 languages call the same": 1}


def test_two_names_in_a_language_for_what_english_and_others_call_the_same():
    same = {"es": "búho", "it": "gufo", "pl": "sowa"}
    entries = [
        Entry("owl", "owl", {**same, "fr": "un hibou", "de": "die Eule"}),
        Entry("Owl", "owl", {**same, "fr": "chouette", "de": "Eule", "ru": "сова"}),
    ]
    drops: Counter = Counter()
    assert pairs(entries, drops) == {("fr", "un hibou", "chouette")}  # "die Eule" holds "Eule"; es, it and pl agree
    assert drops == {"name that holds the other one": 4}


def test_names_of_the_packages(write, read, tmp_path):
    words = {"en": "alligator", "fr": "crocodile", "es": "cocodrilo", "it": "coccodrillo"}
    data = {
        f"src/activities/lang/resource/content-{code}.json": (json.dumps({"a.ogg": word}).encode(), "zlib")
        for code, word in words.items()
    }
    path = tmp_path / "usr/share/gcompris-qt/rcc/lang.rcc"
    path.parent.mkdir(parents=True)
    write_resource(path, data, folder="gcompris")
    for code, name in {**words, "en": "crocodile"}.items():
        table = {"annotations": {"annotations": {"🐊": {"tts": [name]}}}}
        write(f"package/annotations/{code}/annotations.json", json.dumps(table))
    records, _ = read(SOURCE, root=tmp_path)
    [record] = records["round_trip"]
    assert record.queries[0].content.parts[0].text == "alligator" and record.queries[0].language == "en"
    assert record.extra["members"] == ["alligator", "crocodile"] and record.extra["synthetic"] == "round trip"
