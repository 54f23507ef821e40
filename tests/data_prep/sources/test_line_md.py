from __future__ import annotations

import io
import json

import av
import numpy as np
import pytest

from commonspace.errors import DataError
from data_prep.sources.line_md import SOURCE, describe

BAR = '<rect x="0" y="0" height="24" width="0" fill="currentColor"><animate attributeName="width" dur="0.8s" \
values="0;24" fill="freeze"/></rect>'


@pytest.fixture
def icons(tmp_path, write):
    def make(**bodies: str):
        write("package/icons.json", json.dumps({"icons": {name: {"body": body} for name, body in bodies.items()}}))
        return tmp_path

    return make


def test_a_clip_shows_the_drawing_grow(icons, read):
    records, _ = read(SOURCE, root=icons(bar=BAR))
    [record] = records["video"]
    assert record.positives[0].content.parts[0].text == "a bar icon being drawn" and record.concept == "bar"
    assert record.extra["seconds"] == 0.8 and not record.extra["has_sound"]
    clip = av.open(io.BytesIO(record.queries[0].content.parts[0].source))
    dark = [float((frame.to_ndarray(format="gray") < 128).mean()) for frame in clip.decode(video=0)]
    assert len(dark) == 8
    np.testing.assert_allclose(dark, np.linspace(0, 1, 8), atol=0.03)


@pytest.mark.parametrize(
    ("name", "action", "caption"),
    [
        ("arrow-up", "draw", "an arrow up icon being drawn"),
        ("bell-loop", "move", "a bell icon being drawn, then moving on and on"),
        ("menu-to-close-transition", "turn", "a menu icon turning into a close icon"),
        ("moon-to-sunny-outline-loop-transition", "turn", "a moon icon turning into a sunny outline icon"),
    ],
)
def test_names_say_what_moves(name, action, caption):
    assert describe(name)[:2] == (action, caption)


def test_a_turn_and_its_reverse_are_two_concepts():
    assert describe("menu-to-close-transition")[2] != describe("close-to-menu-transition")[2]


def test_looks_and_what_cannot_be_sampled_are_counted(icons, read):
    still = BAR.replace('values="0;24"', 'values="9;9"')
    motion = '<path d="M0 0h9"><animateMotion dur="1s" path="M0 0h3"/></path>'
    root = icons(
        **{"bar": BAR, "bar-filled": BAR, "bar-twotone-loop": BAR, "still": still, "moved": motion, "flat": "<path/>"}
    )
    records, drops = read(SOURCE, root=root)
    assert len(records["video"]) == 1
    assert drops == {
        "filled or two-tone look of another icon": 2,
        "nothing moves in it": 1,
        "<animateMotion> is not covered": 1,
        "nothing in it is animated": 1,
    }


def test_a_broken_package_is_named(tmp_path, read, write):
    write("package/icons.json", "{}")
    with pytest.raises(DataError, match=r"icons\.json"):
        read(SOURCE, root=tmp_path)
