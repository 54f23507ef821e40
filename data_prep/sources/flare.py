"""Flare's enemies: sprite animations labelled by creature, action and direction, with the game's own sounds.

All its sound effects, those of the clips too, are rows of their own as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from commonspace.content import Content, Video
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.clips import encode_clip, encode_sound
from data_prep.flare_sounds import effect_records
from data_prep.keys import record_key
from data_prep.pictures import open_picture
from data_prep.sounds import usable_sounds
from data_prep.source import Package, Source
from data_prep.split import is_fixed
from data_prep.sprites import DIRECTIONS, Animation, crop_clip, parse_animations, sound_effects

_ROOT = "usr/share/games/flare/mods"
_MODS = ("fantasycore", "empyrean_campaign")  # in the order the game loads them
SIDE = 128

# `block` and `critdie` are other poses of hitting and dying; the rest that is missing here exists for one creature.
_ACTIONS = {
    "stance": "standing",
    "run": "moving",
    "swing": "striking",
    "shoot": "shooting",
    "cast": "casting a spell",
    "hit": "being hit",
    "die": "dying",
    "spawn": "rising from the ground",
}
# Meshes: all creatures of one family move alike, whatever their skin. First match wins ("hobgoblin" is a goblin).
_FAMILIES = ("wyvern", "skeleton", "goblin", "zombie", "minotaur", "grave", "stealth", "ant")
_NAMES = {"stealth": "shadowy figure"}  # a grey silhouette
_ADJECTIVES = ("small", "elite", "weak", "adult", "high", "dark", "air", "fire", "water", "ice")


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`video` records, one per creature, action and direction, and `sound` records of the effects."""
    mods = [folders["flare-game"] / _ROOT / name for name in _MODS]
    effects = sound_effects(mods)
    yield from _clips(mods, effects, drops)
    yield from usable_sounds(effect_records(mods, sound_families(effects), drops), drops)


def _clips(mods: list[Path], effects: Mapping[str, Mapping[str, Path]], drops: Counter) -> Iterator[Record]:
    """Clips rendered to mp4 at the game's own frames and rate."""
    encoded = cache(encode_sound)  # one coding per sound file, for all clips that share it
    played: set[tuple[Any, ...]] = set()
    for path in [path for mod in mods for path in sorted((mod / "animations/enemies").glob("*.txt"))]:
        image, animations = parse_animations(path.read_text(encoding="utf-8", errors="replace"))
        sheet = _sheet(mods, image, drops)
        sounds = effects.get(f"animations/enemies/{path.name}", {})
        for action, animation in animations.items() if sheet else ():
            if action not in _ACTIONS:
                drops[f"action {action}"] += len(animation.directions())
                continue
            sound = encoded(sounds[action]) if action in sounds else None
            for direction in animation.directions():
                clip = _render(sheet, animation, direction, played, (image,), drops)
                if clip:
                    data = encode_clip(clip, animation.rate, sound)
                    yield _record(path.stem, action, DIRECTIONS[direction], data, sound is not None)


def creature_name(stem: str) -> str:
    """ "wyvern_air_boss" -> "air wyvern boss": adjectives stand behind the noun in file names."""
    words = _NAMES.get(stem, stem).split("_")
    return " ".join(sorted(words, key=lambda word: word not in _ADJECTIVES))


def family_of(stem: str) -> str:
    """The mesh family of a creature; its own name where it shares its mesh with none."""
    return next((family for family in _FAMILIES if family in stem), stem)


def sound_families(effects: Mapping[str, Mapping[str, Path]]) -> dict[Path, str]:
    """Sound file -> mesh family in whose clips it plays; of several one whose side is set by hand goes first."""
    found: dict[Path, str] = {}
    for animation, sounds in effects.items():
        family = family_of(Path(animation).stem)
        for path in sounds.values():
            both = {found.get(path, family), family}
            found[path] = min(both, key=lambda name: (not is_fixed(f"flare:{name}"), name))
    return found


def _sheet(mods: list[Path], image: str | None, drops: Counter) -> PILImage.Image | None:
    if image is None:
        drops["file that only recolours or extends another creature"] += 1
        return None
    path = next((mod / image for mod in reversed(mods) if (mod / image).is_file()), None)
    try:
        if path is None:
            raise DataError(f"{image}: is in no mod")
        return open_picture(path, image).convert("RGBA")
    except DataError:
        drops["creature without a readable sheet"] += 1
        return None


def _render(
    sheet: PILImage.Image,
    animation: Animation,
    direction: int,
    played: set[tuple[Any, ...]],
    identity: tuple[Any, ...],
    drops: Counter,
) -> list[PILImage.Image] | None:
    """The clip's pictures, or None with its reason counted."""
    try:
        frames = animation.clip(direction)
        if len(frames) < 2 or not 0 <= direction < len(DIRECTIONS):
            drops["clip that does not move"] += 1
            return None
        identity = (*identity, animation.milliseconds, *frames)
        if identity in played:
            drops["clip that another creature repeats"] += 1
            return None
        played.add(identity)
        return crop_clip(sheet, frames, SIDE)
    except DataError:
        drops["clip with missing or misplaced frames"] += 1
        return None


def _record(stem: str, action: str, direction: str, data: bytes, has_sound: bool) -> Record:
    creature, family = creature_name(stem), family_of(stem)
    article = "an" if creature[0] in "aeiou" else "a"
    return Record(
        key=record_key("flare", stem, action, direction),
        task="video",
        source="flare",
        concept=f"flare:{family}",
        queries=(Variant(Content(Video(data, name=f"flare/{stem}-{action}-{direction}.mp4"))),),
        positives=(Variant(Content(f"{article} {creature} {_ACTIONS[action]}, facing {direction}"), "en"),),
        extra={
            "creature": creature,
            "family": family,
            "action": action,
            "direction": direction,
            "has_sound": has_sound,
        },
    )


SOURCE = Source(
    name="flare",
    packages=(
        Package(
            client="apt",
            name="flare-game",
            version="1.14-1",
            filename="flare-game_1.14-1_all.deb",
            sha256="4ab6a8298276013d35a0806257e130d992761af1b749041433b409c3dafec508",
            bytes=122515912,
        ),
    ),
    licence="CC-BY-SA-3.0 or later",
    provenance="Flare: Empyrean Campaign 1.14, as packed by Debian",
    tiers=frozenset({"mini"}),
    records=records,
)
