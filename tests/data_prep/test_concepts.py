from __future__ import annotations

from itertools import permutations

from data_prep.concepts import ConceptMerger


def merged(rows) -> ConceptMerger:
    merger = ConceptMerger()
    for concept, media in rows:
        merger.add(concept, media)
    return merger


def test_names_of_one_file_are_one_concept():
    merger = merged([("flag chad", [1]), ("flag romania", [1]), ("flag france", [2])])
    assert merger.canonical("flag romania") == merger.canonical("flag chad") == "flag chad"
    assert merger.canonical("flag france") == "flag france"
    assert merger.groups() == [["flag chad", "flag romania"]]


def test_the_name_does_not_depend_on_the_order_of_rows():
    rows = [("cc", [1]), ("bbb", [1, 2]), ("aaaa", [2]), ("dd", [3])]
    for order in permutations(rows):
        merger = merged(order)
        assert [merger.canonical(name) for name in ("aaaa", "bbb", "cc", "dd")] == ["cc", "cc", "cc", "dd"]


def test_a_mesh_family_keeps_its_name():
    assert merged([("fly", [7]), ("flare:wyvern", [7])]).canonical("fly") == "flare:wyvern"


def test_rows_without_media_join_nothing():
    assert merged([("one page", []), ("other page", [])]).groups() == []
