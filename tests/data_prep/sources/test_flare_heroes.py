from __future__ import annotations

import io

import av
import pytest
from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.sources import flare_heroes


@pytest.fixture
def game(write, sound, tmp_path, monkeypatch):
    """Two outfits and two weapons, in the game's layout."""
    outfits = {name: flare_heroes._OUTFITS[name] for name in ("cloth", "a mage's robe")}
    monkeypatch.setattr(flare_heroes, "_OUTFITS", outfits)
    monkeypatch.setattr(flare_heroes, "_BLADES", ("dagger",))
    monkeypatch.setattr(flare_heroes, "_HAMMERS", ())
    monkeypatch.setattr(flare_heroes, "_BOWS", ("longbow",))
    monkeypatch.setattr(flare_heroes, "_STAVES", ())
    root = "usr/share/games/flare/mods/fantasycore"
    order = "\n".join(f"layer={n},main,feet,legs,hands,chest,head,off" for n in range(8))
    write(f"{root}/engine/hero_layers.txt", f"# order\n{order}\n")
    names = {name for outfit in flare_heroes._OUTFITS.values() for name in outfit if name}
    lines = [f"frame={n},{d},{4 * n},0,4,8,2,8" for n in range(3) for d in range(8)]
    sections = [
        f"[{action}]\nframes=3\nduration=300ms\ntype=play_once\n" + "\n".join(lines) for action in flare_heroes._ACTIONS
    ]
    buffer = io.BytesIO()
    PILImage.effect_noise((12, 8), 90).convert("RGBA").save(buffer, "PNG")
    for sex in ("male", "female"):
        for name in (*names, "head_short", "head_long", "dagger", "longbow"):
            write(f"{root}/images/avatar/{sex}/{name}.png", buffer.getvalue())
            text = f"image=images/avatar/{sex}/{name}.png\n" + "\n".join(sections)
            write(f"{root}/animations/avatar/{sex}/{name}.txt", text)
    for name in ("melee_attack", "powers/shoot", "male_hit", "male_die", "female_hit", "female_die"):
        write(f"{root}/soundfx/{name}.ogg", sound())
    return tmp_path


def test_heroes_act_with_what_they_carry_and_sound_as_they_do(game, read, frames_of):
    records, drops = read(flare_heroes.SOURCE, root=game)
    found = records["video"]
    assert len(found) == 2 * 2 * 2 * 5 * 2 and not drops  # sexes, outfits, weapons, actions, directions
    said = {(record.extra["weapon"], record.extra["action"]): record for record in found}
    assert ("dagger", "swing") in said and ("longbow", "shoot") in said
    assert not {("dagger", "shoot"), ("longbow", "swing"), ("longbow", "cast")} & set(said)
    shot = said["longbow", "shoot"].positives[0].content.parts[0].text
    assert shot.startswith("a woman in a mage's robe with a longbow shooting, facing ")
    for action, has_sound in {"swing": True, "stance": False}.items():
        record = said["dagger", action]
        assert record.extra["has_sound"] == has_sound
        assert bool(av.open(io.BytesIO(record.queries[0].content.parts[0].source)).streams.audio) == has_sound
    assert len(frames_of(found[0])) == 3
    assert len({record.concept for record in found}) == 4  # outfits with weapons: both sexes on one side


def test_a_missing_order_of_layers_is_named(game, read, write):
    write("usr/share/games/flare/mods/fantasycore/engine/hero_layers.txt", "layer=0,main\n")
    with pytest.raises(DataError, match="orders the layers of 1 directions"):
        read(flare_heroes.SOURCE, root=game)
