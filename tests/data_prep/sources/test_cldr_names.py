from __future__ import annotations

import json

import pytest

from commonspace.errors import DataError
from data_prep.sources.cldr_names import SOURCE


def test_a_character_is_named_in_a_few_of_many_languages(write, read, tmp_path):
    codes = "en ar bg cs da de el es fr hi hu it no zh-Hant".split()
    for code in codes:
        table = {"🦊": {"tts": ["fox" if code == "en" else f"fox {code}"]}, "©": {"tts": ["copyright"]}}
        path = f"package/annotations/{code}/annotations.json"
        write(path, json.dumps({"annotations": {"annotations": table}}))
    records, drops = read(SOURCE, root=tmp_path)
    found = records["term"]
    assert len(found) == 8 and {record.concept for record in found} == {"fox"}
    languages = {record.positives[0].language for record in found}
    assert languages <= {*codes, "zh_TW"} - {"en", "zh-Hant"} and len(languages) == 8
    assert drops == {"name that is the English one, or missing": 13, "beyond 8 languages of a character": 5}


def test_a_missing_name_list_is_named(write, read, tmp_path):
    with pytest.raises(DataError, match=r"annotations.en.annotations\.json cannot be read"):
        read(SOURCE, root=tmp_path)
