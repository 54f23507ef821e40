from __future__ import annotations

import json

from data_prep.sources.gcompris_words import SOURCE
from tests.data_prep.test_qt_resource import write_resource


def test_words_in_the_languages_of_the_lists(write, read, tmp_path):
    files = {
        "resource/content-en.json": {"cow.ogg": "cow", "ten.ogg": "ten"},
        "resource/content-fr.json": {"cow.ogg": "vache", "ten.ogg": "ten", "x.ogg": "x"},
        "resource/content-xx.json": {"cow.ogg": "moo"},
    }
    data = {f"src/activities/lang/{name}": (json.dumps(words).encode(), "zlib") for name, words in files.items()}
    path = tmp_path / "usr/share/gcompris-qt/rcc/lang.rcc"
    path.parent.mkdir(parents=True)
    write_resource(path, data, folder="gcompris")
    records, drops = read(SOURCE, root=tmp_path)
    [record] = records["term"]
    assert (record.concept, record.positives[0].content.parts[0].text, record.extra["language"]) == (
        "cow",
        "vache",
        "fr",
    )
    assert drops == {"word that is missing or the English one": 1, "xx: unknown to the text backbone": 1}
