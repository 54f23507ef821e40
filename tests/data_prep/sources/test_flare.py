from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as PILImage

from data_prep.sources.flare import SOURCE, creature_name, family_of
from data_prep.split import split_of

_ROOT = "usr/share/games/flare/mods"


def _sheet() -> bytes:
    """Eight squares of 16 px, each with a brighter block than the one before."""
    values = np.zeros((32, 128, 4), np.uint8)
    for index in range(8):
        values[:, 16 * index : 16 * index + 16] = (30 * index, 0, 255 - 30 * index, 255)
    buffer = io.BytesIO()
    PILImage.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def _section(name: str, frames: list[int], direction: int = 2, broken: bool = False, kind: str = "play_once") -> str:
    lines = [f"frame={n},{direction},{16 * x},0,16,32,8,30" for n, x in enumerate(frames)]
    lines[-1] = "frame=oops" if broken else lines[-1]
    return "\n".join(
        [f"[{name}]", f"frames={len(frames)}", f"duration={100 * len(frames)}ms", f"type={kind}", *lines, ""]
    )


def test_clips_are_rendered_with_their_own_frames_rate_and_sound(write, read, sound, tmp_path: Path) -> None:
    base = f"{_ROOT}/fantasycore"
    write(f"{base}/images/enemies/wyvern.png", _sheet())
    write(f"{base}/soundfx/enemies/roar.ogg", sound())
    write(
        f"{base}/animations/enemies/wyvern_fire.txt",
        "image=images/enemies/wyvern.png\n"
        + _section("run", [0, 1, 2, 3, 4, 5, 6, 7])
        + _section("swing", [0, 2, 4])
        + _section("hit", [1, 3, 5], kind="back_forth")
        + _section("shoot", [0, 2, 4])  # the frames of `swing` under another name
        + _section("cast", [1, 2], broken=True)
        + _section("die", [6, 9])  # the second lies outside the sheet
        + _section("stance", [1])
        + _section("critdie", [1, 2]),
    )
    write(f"{base}/enemies/base/wyvern.txt", "sfx_attack=swing,soundfx/enemies/roar.ogg\n")
    write(
        f"{base}/enemies/fire.txt",
        "INCLUDE enemies/base/wyvern.txt\nanimations=animations/enemies/wyvern_fire.txt\n",
    )
    write(
        f"{_ROOT}/empyrean_campaign/animations/enemies/ghost.txt", "color_mod=1,2,3\nINCLUDE animations/enemies/x.txt"
    )
    write(f"{_ROOT}/empyrean_campaign/animations/enemies/lost.txt", "image=images/none.png\n" + _section("run", [0, 1]))
    records, drops = read(SOURCE, root=tmp_path)
    clips = {record.extra["action"]: record for record in records["video"]}
    assert set(clips) == {"run", "swing", "hit"}
    assert drops == {
        "clip that another creature repeats": 1,
        "clip with missing or misplaced frames": 2,
        "clip that does not move": 1,
        "action critdie": 1,
        "file that only recolours or extends another creature": 1,
        "creature without a readable sheet": 1,
    }
    swing = clips["swing"]
    assert swing.positives[0].content.parts[0].text == "a fire wyvern striking, facing north"
    assert swing.concept == "flare:wyvern"
    assert {action: clip.extra["has_sound"] for action, clip in clips.items()} == {
        "run": False,
        "swing": True,
        "hit": False,
    }
    for action, count in {"run": 8, "swing": 3, "hit": 4}.items():
        with av.open(io.BytesIO(clips[action].queries[0].content.parts[0].source)) as file:
            assert bool(file.streams.audio) == (action == "swing")
            assert float(file.streams.video[0].average_rate) == pytest.approx(10, rel=1e-3)
            reds = [frame.to_image().getpixel((64, 64))[0] for frame in file.decode(video=0)]
        assert len(reds) == count
        assert reds == sorted(reds) or action == "hit"


def test_names_and_families() -> None:
    assert creature_name("wyvern_air_boss") == "air wyvern boss"
    assert creature_name("skeleton_mage_high_boss") == "high skeleton mage boss"
    assert creature_name("stealth") == "shadowy figure"
    assert [family_of(name) for name in ("hobgoblin_archer", "ice_ant", "antlion_small", "cursed_grave", "dragon")] == [
        "goblin",
        "ant",
        "ant",
        "grave",
        "dragon",
    ]
    assert split_of(f"flare:{family_of('wyvern_adult')}") == split_of(f"flare:{family_of('cursed_grave')}") == "heldout"
    assert split_of(f"flare:{family_of('zombie_dark')}") == "dev"
