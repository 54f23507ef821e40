from __future__ import annotations

import pytest

from commonspace.errors import DataError
from data_prep.sources.kgeography import SOURCE


def test_a_flag_is_named_by_its_map_and_in_the_languages_of_its_emoji(derived, write, read, picture):
    root = "usr/share/kgeography"
    divisions = "".join(
        f"<division><name>{name}</name><flag>{flag}</flag></division>"
        for name, flag in [
            ("Chad", "chad.png"),
            ("Pará", "brazil/pa.png"),
            ("Gone", "gone.png"),
            ("Out", "../../../x.png"),
        ]
    )
    write(f"{root}/africa.kgm", f"<map><name>Africa</name>{divisions}<division><name>Sea</name></division></map>")
    write(f"{root}/world.kgm", "<map><division><name>Chad</name><flag>chad.png</flag></division></map>")
    for file in ("flags/chad.png", "flags/brazil/pa.png", "../../x.png"):
        write(f"{root}/{file}", picture(colour="red"))
    records, drops = read(SOURCE, root=derived)
    chad, para = records["image_caption"]
    texts = [(v.language, v.content.parts[0].text) for v in chad.positives]
    assert texts[:2] == [("en", "flag of Chad"), ("en", "Chad")] and ("de", "flag: Chad de") in texts
    assert chad.concept == "flag chad" and [v.language for v in para.positives] == ["en", "en"]
    assert para.extra["category"] == "brazil" and drops == {"flag that cannot be read": 2}


def test_a_map_with_entities_is_refused(derived, write, read):
    write("usr/share/kgeography/x.kgm", '<!DOCTYPE map [<!ENTITY a "b">]><map/>')
    with pytest.raises(DataError, match=r"x\.kgm declares entities"):
        read(SOURCE, root=derived)
