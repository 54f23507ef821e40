from __future__ import annotations

import json

from data_prep.sources.openmoji_variants import SOURCE

_SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72"><circle cx="36" cy="36" r="28" fill="red"/></svg>'


def test_skin_tones_of_a_person_share_a_concept(derived, write, read):
    tones = [
        {"emoji": "👋🏽", "hexcode": "1F44B-1F3FD", "annotation": "waving hand: medium skin tone", "skintone": 3},
        {"emoji": "👋🏿", "hexcode": "1F44B-1F3FF", "annotation": "waving hand: dark skin tone", "skintone": 5},
        {"emoji": "👋", "hexcode": "1F44B", "annotation": "waving hand", "skintone": ""},
    ]
    fields = {"group": "people-body", "subgroups": "hand"}
    write("package/data/openmoji.json", json.dumps([tone | fields for tone in tones]))
    write("package/color/svg/1F44B-1F3FD.svg", _SVG)
    records, drops = read(SOURCE, root=derived)
    [record] = records["image_caption"]
    assert record.concept == "waving hand" and record.positives[0].language == "en"
    assert {v.language for v in record.positives} >= {"fr", "ja", "sw"} and drops == {"drawing cannot be rendered": 1}
