from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as PILImage

from commonspace.data.sample import Record
from data_prep.sources.flare import SOURCE, creature_name, family_of, sound_families
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
        "sound that no name describes": 1,
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


def test_sounds_of_creatures_lie_on_the_side_of_their_family(write, read, sound, tmp_path: Path) -> None:
    base, campaign = f"{_ROOT}/fantasycore", f"{_ROOT}/empyrean_campaign"
    played = {
        "wyvern": {"die": "enemies/wyvern_die", "hit": "enemies/wyvern_hit"},
        "cursed_grave": {"swing": "enemies/grave_attack"},
        "zombie_dark": {"cast": "enemies/zombie_ment"},
        "boulder": {"die": "environment/falling_rocks"},
    }
    for creature, sounds in played.items():
        lines = [f"sfx_attack={action},soundfx/{path}.ogg" for action, path in sounds.items()]
        write(f"{base}/enemies/{creature}.txt", "\n".join([f"animations=animations/enemies/{creature}.txt", *lines]))
    files = [path for sounds in played.values() for path in sounds.values()]
    others = ["enemies/dragon_die", "steps/step_cloth1", "steps/step_cloth2", "level_up", "npcs/male_merchant_01"]
    for number, path in enumerate([*files, *others]):
        write(f"{base}/soundfx/{path}.ogg", sound(pitch=200 + 50 * number))
    write(f"{base}/soundfx/environment/rain.ogg", sound(0))
    write(f"{campaign}/soundfx/environment/rain.ogg", sound(pitch=150))
    records, drops = read(SOURCE, root=tmp_path)
    found = {record.queries[0].content.parts[0].name: record for record in records["sound"]}
    assert {name.removeprefix("flare/soundfx/"): (_text(row), row.concept) for name, row in found.items()} == {
        "enemies/grave_attack.ogg": ("a cursed grave attacking", "flare:grave"),
        "enemies/wyvern_die.ogg": ("a wyvern dying", "flare:wyvern"),
        "enemies/wyvern_hit.ogg": ("a wyvern being hit", "flare:wyvern"),
        "enemies/zombie_ment.ogg": ("a zombie casting a spell", "flare:zombie"),
        "environment/falling_rocks.ogg": ("falling rocks", "flare:boulder"),
        "environment/rain.ogg": ("rain", "rain"),
        "steps/step_cloth1.ogg": ("footsteps in cloth shoes", "footsteps in cloth shoes"),
        "steps/step_cloth2.ogg": ("footsteps in cloth shoes", "footsteps in cloth shoes"),
    }
    sides = {row.queries[0].content.parts[0].source.stem: split_of(row.concept) for row in records["sound"]}
    assert [sides[name] for name in ("wyvern_die", "wyvern_hit", "grave_attack")] == ["heldout"] * 3
    assert sides["zombie_ment"] == "dev"
    assert drops == {
        "sound of a creature without a mesh family": 1,
        "sound that no name describes": 1,
        "sound that is speech": 1,
    }


def _text(record: Record) -> str:
    return record.positives[0].content.parts[0].text


def test_a_sound_of_several_families_lies_where_the_one_with_a_fixed_side_does() -> None:
    roar = Path("roar.ogg")
    effects = {f"animations/enemies/{name}.txt": {"hit": roar} for name in ("ant", "wyvern_air", "goblin")}
    assert sound_families(effects) == {roar: "wyvern"}
    assert sound_families({"animations/enemies/ice_ant.txt": {"hit": roar}}) == {roar: "ant"}


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
