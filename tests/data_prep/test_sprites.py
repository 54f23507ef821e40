from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.sprites import Frame, crop_clip, layered_clip, parse_animations, sound_effects

_TEXT = """
image=images/x.png,1

[run]
frames=3
duration=300ms
type=back_forth
frame=0,2,0,0,10,20,5,18
frame=1,2,10,0,10,20,5,18,extra
frame=2,2,20,0,10,20,5,18
frame=0,3,0,0,10,20,5,18
frame=1,3,broken,0,10
frame=2,3,20,0,10,20,5,18
[die]
frames=99999999999
duration=forever
"""


def test_an_animation_file_is_read_and_its_broken_lines_are_missing_frames() -> None:
    image, found = parse_animations(_TEXT)
    assert image == "images/x.png"
    run = found["run"]
    assert (run.count, run.milliseconds, run.kind, run.rate) == (3, 300, "back_forth", 10.0)
    assert run.directions() == [2, 3]
    assert [frame.x for frame in run.clip(2)] == [0, 10, 20, 10]  # there and back
    with pytest.raises(DataError, match="2 of 3 frames"):
        run.clip(3)
    with pytest.raises(DataError):
        found["die"].clip(0)


def test_a_file_without_a_sheet_says_so() -> None:
    assert parse_animations("color_mod=1,2,3\nINCLUDE animations/x.txt\n")[0] is None


def test_one_crop_holds_all_frames_so_that_only_the_creature_moves() -> None:
    sheet = PILImage.new("RGBA", (40, 20), (0, 0, 0, 0))
    sheet.paste((255, 0, 0, 255), (0, 0, 10, 10))
    sheet.paste((0, 0, 255, 255), (10, 0, 20, 10))
    frames = [Frame(0, 0, 10, 10, 15, 5), Frame(10, 0, 10, 10, -5, 5)]  # left of the spot, then right of it
    first, second = crop_clip(sheet, frames, side=68)  # 30 px wide and 4 of margin, doubled
    assert first.size == second.size == (68, 68)
    assert first.getpixel((14, 34)) == (255, 0, 0)
    assert first.getpixel((54, 34)) == (255, 255, 255)
    assert second.getpixel((54, 34)) == (0, 0, 255)
    assert second.getpixel((14, 34)) == (255, 255, 255)


@pytest.mark.parametrize("frame", [Frame(35, 0, 10, 10, 0, 0), Frame(-1, 0, 5, 5, 0, 0), Frame(0, 0, 0, 5, 0, 0)])
def test_frames_outside_the_sheet_are_refused(frame: Frame) -> None:
    with pytest.raises(DataError, match="40x20"):
        crop_clip(PILImage.new("RGBA", (40, 20)), [frame], side=32)


def test_sounds_follow_includes_and_the_later_mod(tmp_path: Path) -> None:
    base, more = tmp_path / "base", tmp_path / "more"
    for path, text in {
        base / "enemies/base/loop.txt": "INCLUDE enemies/base/loop.txt\nsfx_hit=soundfx/hit.ogg\n",
        base / "enemies/orc.txt": "INCLUDE enemies/base/loop.txt\nsfx_attack=swing,soundfx/a.ogg\n"
        "sfx_attack=swing,soundfx/hit.ogg\nsfx_die=../../secret.ogg\nanimations=animations/enemies/orc.txt\n",
        more / "enemies/mute.txt": "animations=animations/enemies/mute.txt\nsfx_die=soundfx/none.ogg\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for path in (
        base / "soundfx/hit.ogg",
        base / "soundfx/a.ogg",
        more / "soundfx/a.ogg",
        tmp_path.parent / "secret.ogg",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert sound_effects([base, more]) == {
        "animations/enemies/orc.txt": {"hit": base / "soundfx/hit.ogg", "swing": more / "soundfx/a.ogg"}
    }


def sheet(colour: str, size=(20, 20)) -> PILImage.Image:
    return PILImage.new("RGBA", size, colour)


def test_layers_stand_on_one_point_and_the_last_is_in_front():
    body = [Frame(0, 0, 10, 20, 5, 20), Frame(10, 0, 10, 20, 5, 20)]
    hat = [Frame(0, 0, 4, 4, 2, 20), Frame(0, 0, 4, 4, 2, 20)]
    strip, frames = layered_clip([(sheet("red"), body), (sheet("blue"), hat)])
    for picture in crop_clip(strip, frames, 24):
        values = np.asarray(picture)
        assert tuple(values[4, 12]) == (0, 0, 255) and tuple(values[18, 12]) == (255, 0, 0)
        assert tuple(values[12, 1]) == (255, 255, 255)


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"layers have \[1, 2\] frames"):
        layered_clip([(sheet("red"), [Frame(0, 0, 4, 4, 0, 0)]), (sheet("red"), [Frame(0, 0, 4, 4, 0, 0)] * 2)])
    with pytest.raises(DataError, match="a frame covers"):
        layered_clip([(sheet("red"), [Frame(18, 0, 4, 4, 0, 0)])])
