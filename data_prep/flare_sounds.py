"""Flare's sound effects and what they are called.

Names are read off the files, and off the items, powers and maps that play them. Creatures' sounds are the soundtracks
of their clips, so they lie where their mesh family lies.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from commonspace.data.sample import Record
from data_prep.sounds import sound_record
from data_prep.split import concept

_SPEECH = "npcs/"  # greetings of merchants; soundfx/subtitles.txt has their words
# By path below soundfx/, without running numbers.
_NAMES = {
    "door_open": "a door opening",
    "wood_open": "something wooden opening",
    "female_die": "a woman dying",
    "female_hit": "a woman being hit",
    "male_die": "a man dying",
    "male_hit": "a man being hit",
    "heartbeat": "a heart beat",
    "melee_attack": "swinging a weapon",
    "environment/anvil_loop": "hammering on an anvil",
    "environment/bird_twitter_loop": "birds twittering",
    "environment/cave_droplets_loop": "water dripping in a cave",
    "environment/cave_wind_loop": "wind in a cave",
    "environment/falling_rocks": "falling rocks",
    "environment/forest_owl_loop": "an owl in the forest",
    "environment/minecart": "a mine cart",
    "environment/open_fire": "an open fire",
    "environment/open_fire_loop": "an open fire",
    "environment/rain": "rain",
    "environment/raven_loop": "a raven",
    "environment/river_loop": "a river",
    "environment/stairs": "walking on stairs",
    "environment/stone_open": "something made of stone opening",
    "environment/teleporter": "a teleporter",
    "environment/wind_loop": "wind",
    "inventory/inventory_book": "handling a book",
    "inventory/inventory_cloth": "handling cloth",
    "inventory/inventory_coins": "handling coins",
    "inventory/inventory_gem": "handling a gem",
    "inventory/inventory_leather": "handling leather",
    "inventory/inventory_maille": "handling chain mail",
    "inventory/inventory_metal": "handling metal",
    "inventory/inventory_page": "turning a page",
    "inventory/inventory_potion": "handling a potion bottle",
    "inventory/inventory_wood": "handling wood",
    "powers/block": "blocking a blow",
    "powers/burn": "burning",
    "powers/fireball": "a fireball",
    "powers/freeze": "freezing",
    "powers/heal": "a healing spell",
    "powers/potion": "drinking a potion",
    "powers/quake": "an earthquake",
    "powers/shield": "a shield spell",
    "powers/shock": "a shock spell",
    "powers/shoot": "shooting an arrow",
    "powers/spikes": "a spike trap",
    "powers/teleport": "a teleport spell",
    "powers/thunder": "thunder",
    "powers/timestop": "a spell that stops time",
    "powers/warcry": "a war cry",
    "steps/step_cloth": "footsteps in cloth shoes",
    "steps/step_echo": "echoing footsteps",
    "steps/step_leather": "footsteps in leather boots",
    "steps/step_metal": "footsteps in metal boots",
}
_CREATURES = {"grave": "cursed grave"}
_ACTS = {
    "attack": "attacking",
    "phys": "attacking",
    "ment": "casting a spell",
    "hit": "being hit",
    "die": "dying",
    "critdie": "dying",
}


def effect_records(mods: Sequence[Path], families: Mapping[Path, str], drops: Counter) -> Iterator[Record]:
    """`sound` records of all effects that have a name; `families` maps the soundtracks of clips to mesh families."""
    for path, file in _effects(mods).items():
        name = effect_name(path)
        family = families.get(file.resolve())
        if path.startswith(_SPEECH):
            drops["sound that is speech"] += 1
        elif name is None:
            drops["sound that no name describes"] += 1
        elif family is None and path.startswith("enemies/"):
            drops["sound of a creature without a mesh family"] += 1  # nobody could say on which side it lies
        else:
            category = path.split("/")[0] if "/" in path else "soundfx"
            shared = f"flare:{family}" if family else concept(name)
            yield sound_record("flare", ("soundfx", *f"{path}.ogg".split("/")), file, name, shared, category)


def effect_name(path: str) -> str | None:
    """What is heard in an effect, by its path below soundfx/ without ending; None where nothing says."""
    creature, _, act = path.removeprefix("enemies/").rpartition("_")
    if path.startswith("enemies/"):
        noun = _CREATURES.get(creature, creature)
        article = "an" if noun[:1] in "aeiou" else "a"
        return f"{article} {noun} {_ACTS[act]}" if creature and act in _ACTS else None
    return _NAMES.get(re.sub(r"\d+$", "", path))


def _effects(mods: Sequence[Path]) -> dict[str, Path]:
    """Path below soundfx/ without ending -> file, sorted; later mods hide earlier files."""
    found = {}
    for mod in mods:
        root = mod / "soundfx"
        found |= {path.relative_to(root).with_suffix("").as_posix(): path for path in root.rglob("*.ogg")}
    return dict(sorted(found.items()))
