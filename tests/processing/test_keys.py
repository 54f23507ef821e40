from __future__ import annotations

from dataclasses import fields, replace

import pytest

from commonspace.processing.keys import RELEVANT, feature_key
from commonspace.processing.preprocessing import Preprocessing

P = Preprocessing()


def test_a_key_is_of_bytes_numbers_tower_and_options():
    key = feature_key(b"x", "image", P, "tower", 3)
    assert len(key) == 40 and int(key, 16)
    assert key == feature_key(b"x", "image", Preprocessing(), "tower", 3)
    others = {
        feature_key(b"y", "image", P, "tower", 3),
        feature_key(b"x", "frames", P, "tower", 3),
        feature_key(b"x", "image", P, "other", 3),
        feature_key(b"x", "image", P, "tower", 2),
        feature_key(b"x", "image", P, "tower", 3, None),
        feature_key(b"x", "image", replace(P, image_size=160), "tower", 3),
    }
    assert len(others | {key}) == 7


@pytest.mark.parametrize("what", list(RELEVANT))
def test_a_key_moves_with_the_numbers_that_shape_its_medium_and_no_others(what):
    key = feature_key(b"x", what, P, "tower")
    for item in fields(Preprocessing):
        if item.name == "prefixes":
            continue
        value = 16 if item.name == "image_patch" else getattr(P, item.name)
        halved = ("audio_hop", "max_text_tokens", "image_patch")
        other = value // 2 if item.name in halved else value * 2
        changed = replace(P, **{item.name: not value if isinstance(value, bool) else other})
        assert (feature_key(b"x", what, changed, "tower") != key) == (item.name in RELEVANT[what]), item.name


def test_keys_of_squares_are_those_of_before_there_was_a_choice():
    """A cache may hold days of work."""
    assert feature_key(b"x", "image", P, "tower", 3) == "549e8faff20c1ad242fb2910d2e50f940f11c969"
