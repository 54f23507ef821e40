from __future__ import annotations

import json
import sqlite3

import pytest

from commonspace.errors import DataError
from data_prep.sources.stellarium import SOURCE


@pytest.fixture
def sky(write, tmp_path, picture):
    tiles = [{"imageUrl": f"{name}.png"} for name in ("m17", "n7000-vasey", "m17", "p33423", "n1", "m1dumont")]
    text = json.dumps({"subTiles": tiles}).replace('"m17.png"', '"m17.png", "worldCoords": [[275.4,-.6], [.5,1]]', 1)
    root = "usr/share/stellarium"
    write(f"{root}/nebulae/default/textures.json", text)
    for name in ("m17", "n7000-vasey", "n1"):
        write(f"{root}/nebulae/default/{name}.png", picture(seed=len(name)))
    for culture, licence in {"western": "CC BY-SA 4.0", "closed": "CC BY-NC-ND 4.0", "silent": ""}.items():
        write(f"{root}/skycultures/{culture}/info.ini", f"[info]\nname = {culture}\nlicense = {licence}\nregion = X\n")
        write(f"{root}/skycultures/{culture}/constellationsart.fab", "# art\nOri orion.png 1 2 3\nXyz gone.png 1 2\n")
        write(f"{root}/skycultures/{culture}/constellation_names.eng.fab", 'Ori "Orion" _("Orion")\n')
        write(f"{root}/skycultures/{culture}/orion.png", picture(seed=9))
    (tmp_path / "pyongc").mkdir()
    with sqlite3.connect(tmp_path / "pyongc/ongc.db") as base:
        base.execute("create table objects (name, type, messier, commonnames)")
        base.execute("create table objTypes (type, typedesc)")
        rows = [("NGC6618", "Neb", "017", "Omega,Swan"), ("NGC7000", "HII", "", ""), ("NGC0001", "*", "", "")]
        base.executemany("insert into objects values (?, ?, ?, ?)", rows)
        kinds = [("Neb", "Nebula"), ("HII", "HII Ionized region"), ("*", "Star")]
        base.executemany("insert into objTypes values (?, ?)", kinds)
    base.close()
    return tmp_path


def test_photos_of_the_sky_have_names_and_kinds(sky, read):
    records, drops = read(SOURCE, root=sky)
    found = {r.extra["object"]: r.positives[0].content.parts[0].text for r in records["astronomy"]}
    assert found == {"Messier 17": "Omega, Messier 17: nebula", "NGC 7000": "NGC 7000: emission nebula"}
    assert drops["photo whose object or kind the catalogue does not name"] == 3


def test_constellations_of_cultures_under_a_free_licence(sky, read):
    records, drops = read(SOURCE, root=sky)
    assert [(r.concept, r.extra["culture"]) for r in records["constellation"]] == [("orion", "western")]
    assert drops["constellation under no licence, or one without derivatives or commerce"] == 4
    assert SOURCE.role == "zero_shot"


def test_a_broken_list_of_photos_is_named(sky, read, write):
    write("usr/share/stellarium/nebulae/default/textures.json", "{")
    with pytest.raises(DataError, match=r"textures\.json cannot be read"):
        read(SOURCE, root=sky)
