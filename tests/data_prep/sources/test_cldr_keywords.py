from __future__ import annotations

import json

from data_prep.sources.cldr_keywords import SOURCE


def test_keywords_lead_to_the_name_in_their_language(write, read, tmp_path):
    codes = "en bg cs da de el es fr hi hu it".split()
    for code in codes:
        fox = {
            "tts": ["fox" if code == "en" else f"fox {code}"],
            "default": ["Fox", "fox", f"fox {code}", f"red {code}"],
        }
        table = {
            "🦊": fox,
            "©": {"tts": ["copyright"], "default": ["c", "Copyright"]},
            "?": {"default": ["nameless", "x"]},
        }
        path = f"package/annotations/{code}/annotations.json"
        write(path, json.dumps({"annotations": {"annotations": table}}))
    records, drops = read(SOURCE, root=tmp_path)
    found = {record.extra["language"]: record for record in records["keyword"]}
    assert len(found) == len(records["keyword"]) == 9 and "en" in found
    for code, record in found.items():
        keywords, name = (side[0].content.parts[0].text for side in (record.queries, record.positives))
        assert name == ("fox" if code == "en" else f"fox {code}") and name not in keywords.split(", ")
        assert keywords == (f"fox en, red {code}" if code == "en" else f"fox, red {code}")
        assert record.extra["synthetic"] == "keywords" and record.extra["members"] == [record.concept] == ["fox"]
    assert drops == {"fewer than 2 keywords beside the name": 11, "beyond a few languages of a character": 2}
