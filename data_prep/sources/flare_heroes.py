"""Flare's heroes: bodies, clothes and weapons laid over one another into clips, with the game's own sounds.

Every outfit moves alike. An outfit with a weapon is held out, so these rows test how it looks, not how it moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path

from PIL import Image as PILImage

from commonspace.content import Content, Video
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.clips import encode_clip, encode_sound
from data_prep.keys import record_key
from data_prep.pictures import open_picture
from data_prep.source import Source
from data_prep.sources import flare
from data_prep.split import concept
from data_prep.sprites import DIRECTIONS, Animation, crop_clip, layered_clip, parse_animations

_NAME = "flare-heroes"
_MOD = "usr/share/games/flare/mods/fantasycore"
_DRAWN = 2  # directions of the eight, by hash, for each outfit, weapon and action
_SEXES = {"male": ("man", "head_short"), "female": ("woman", "head_long")}
_OUTFITS = {
    "cloth": ("cloth_shirt", "cloth_pants", "cloth_sandals", "cloth_gloves", None),
    "leather armor": ("leather_chest", "leather_pants", "leather_boots", "leather_gloves", "leather_hood"),
    "chain mail": ("chain_cuirass", "chain_greaves", "chain_boots", "chain_gloves", "chain_coif"),
    "plate armor": ("plate_cuirass", "plate_greaves", "plate_boots", "plate_gauntlets", "plate_helm"),
    "a mage's robe": ("mage_vest", "mage_skirt", "mage_boots", "mage_sleeves", "mage_hood"),
}
_BLADES = ("dagger", "shortsword", "longsword", "greatsword", "zweihander", "hand_axe", "battle_axe", "club", "mace")
_HAMMERS = ("maul", "war_hammer")
_BOWS = ("slingshot", "shortbow", "longbow", "greatbow")
_STAVES = ("wand", "rod", "staff", "greatstaff")
_ACTIONS = {
    "stance": "standing",
    "run": "running",
    "swing": "striking",
    "shoot": "shooting",
    "cast": "casting a spell",
    "hit": "being hit",
    "die": "dying",
}
_SOUNDS = {"swing": "melee_attack", "shoot": "powers/shoot", "hit": "{sex}_hit", "die": "{sex}_die"}


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`video` records, one per sex, outfit, weapon, action and drawn direction."""
    mod = folders["flare-game"] / _MOD
    order = _layer_order(mod / "engine/hero_layers.txt")
    encoded = cache(encode_sound)
    for sex, (noun, head) in _SEXES.items():
        sheets = cache(lambda name, sex=sex: _sheet(mod, sex, name))
        for outfit, (chest, legs, feet, hands, hat) in _OUTFITS.items():
            for weapon in (*_BLADES, *_HAMMERS, *_BOWS, *_STAVES):
                worn = {"feet": feet, "legs": legs, "hands": hands, "chest": chest, "head": hat or head, "main": weapon}
                for action in _actions_of(weapon):
                    for direction in _directions(sex, outfit, weapon, action):
                        layers = [worn[layer] for layer in order[direction] if layer in worn]
                        clip = _clip([sheets(name) for name in layers], action, direction, drops)
                        if clip is None:
                            continue
                        frames, rate = clip
                        sound = mod / f"soundfx/{_SOUNDS[action].format(sex=sex)}.ogg" if action in _SOUNDS else None
                        data = encode_clip(frames, rate, encoded(sound) if sound else None)
                        yield _record(sex, noun, outfit, weapon, action, DIRECTIONS[direction], data, sound is not None)


def _actions_of(weapon: str) -> list[str]:
    """Nobody shoots with a sword or casts with a bow."""
    own = "shoot" if weapon in _BOWS else "cast" if weapon in _STAVES else "swing"
    return [action for action in _ACTIONS if action not in ("shoot", "cast", "swing") or action == own]


def _directions(*parts: str) -> list[int]:
    def order(direction: int) -> bytes:
        return blake2b("/".join((*parts, str(direction))).encode(), digest_size=8).digest()

    return sorted(range(len(DIRECTIONS)), key=order)[:_DRAWN]


def _layer_order(path: Path) -> dict[int, list[str]]:
    """{direction: layers from the back to the front}."""
    try:
        lines = [line.removeprefix("layer=") for line in path.read_text().splitlines() if line.startswith("layer=")]
        found = {int(line.split(",")[0]): line.strip().split(",")[1:] for line in lines}
    except (OSError, ValueError) as error:
        raise DataError(f"{_NAME}: {path} cannot be read ({error}); delete its package and build again") from error
    if sorted(found) != list(range(len(DIRECTIONS))):
        raise DataError(f"{_NAME}: {path} orders the layers of {len(found)} directions, not of {len(DIRECTIONS)}")
    return found


def _sheet(mod: Path, sex: str, name: str) -> tuple[PILImage.Image, dict[str, Animation]]:
    path = mod / f"animations/avatar/{sex}/{name}.txt"
    try:
        image, animations = parse_animations(path.read_text(encoding="utf-8", errors="replace"))
        return open_picture(mod / str(image), name).convert("RGBA"), animations
    except OSError as error:
        raise DataError(f"{_NAME}: {path} cannot be read ({error}); delete its package and build again") from error


def _clip(
    sheets: list[tuple[PILImage.Image, dict[str, Animation]]], action: str, direction: int, drops: Counter
) -> tuple[list[PILImage.Image], float] | None:
    try:
        layers = [(sheet, animations[action].clip(direction)) for sheet, animations in sheets if action in animations]
        sheet, frames = layered_clip(layers)
        return crop_clip(sheet, frames, flare.SIDE), sheets[0][1][action].rate
    except (DataError, KeyError):
        drops["clip with missing or misplaced frames"] += 1
        return None


def _record(
    sex: str, noun: str, outfit: str, weapon: str, action: str, direction: str, data: bytes, has_sound: bool
) -> Record:
    arm = weapon.replace("_", " ")
    who = f"a {noun} in {outfit} with {'an' if arm[0] in 'aeiou' else 'a'} {arm}"
    name = f"{sex}-{outfit}-{weapon}-{action}-{direction}"
    return Record(
        key=record_key(_NAME, sex, outfit, weapon, action, direction),
        task="video",
        source=_NAME,
        concept=concept(f"hero in {outfit} with {arm}"),
        queries=(Variant(Content(Video(data, name=f"{_NAME}/{name}.mp4"))),),
        positives=(Variant(Content(f"{who} {_ACTIONS[action]}, facing {direction}"), "en"),),
        extra={"outfit": outfit, "weapon": arm, "action": action, "direction": direction, "has_sound": has_sound},
    )


SOURCE = Source(
    name=_NAME,
    packages=flare.SOURCE.packages,
    licence=flare.SOURCE.licence,
    provenance=flare.SOURCE.provenance,
    tiers=frozenset({"full"}),
    records=records,
)
