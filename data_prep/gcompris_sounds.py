"""GCompris' sound effects and what they are called: by their files, their credits and what the activity shows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from commonspace.data.sample import Record
from data_prep.activities import Activity
from data_prep.sounds import sound_record
from data_prep.split import concept

# Activity -> file name without running number -> what is heard. Jingles for right and wrong answers have no name, nor
# have numbered files; one of `chronos` and perhaps that of `gnumch-equality` are speech.
_NAMES = {
    "core": {
        "audioclick": "click",
        "bleep": "bleep",
        "crash": "crash",
        "flip": "flip",
        "water": "water",
    },
    "align4_2players": {"slide": "game piece sliding"},
    "babymatch": {"drop": "object falling", "slideIn": "sliding in", "slideOut": "sliding out"},
    "ballcatch": {},
    "canal_lock": {
        "door_close": "canal lock door closing",
        "door_open": "canal lock door opening",
        "lock": "canal lock valve",
        "water_fill": "water filling a canal lock",
    },
    "chronos": {},
    "clickgame": {"bubble": "bubble", "drip": "drip"},
    "erase": {"eraser": "eraser"},
    "gnumch-equality": {},
    "guessnumber": {"helicopter": "helicopter"},
    "melody": {"knock": "knock", "xylofon_son": "xylophone"},
    "memory": {"card_flip": "card flip"},
    "mining": {"pickaxe": "pickaxe"},
    "money": {"money": "money"},
    "morse_code": {"dash": "Morse code dash", "dot": "Morse code dot", "silence": "silence"},
    "nine_men_morris": {"click": "click"},
    "play_rhythm": {"click": "metronome"},
    "railroad": {"train": "train"},
    "redraw": {"brush": "paint brush", "eraser": "eraser"},
    "reversecount": {"icy_walk": "walking on ice"},
    "scalesboard": {"metal_hit": "hitting metal"},
    "target": {"arrow": "arrow hitting a target"},
    "tic_tac_toe": {"click": "click"},
    "traffic": {"car": "car engine starting"},
    "watercycle": {"harbor": "boat in a harbor"},
}
# Recordings of the memory game whose files are named by how they sound to somebody, or for what they were made.
_VAGUE = ("weird", "hits", "la pause short", "fireballs")
_REWORDED = {"door open": "door opening"}  # as other sources say: one name is on one side


def activity_sound(activity: Activity, path: str, text: str, title: str) -> Record:
    """The `sound` record of a file of an activity; `title` gives its concept."""
    place = (activity.name, Path(path).name)
    return sound_record("gcompris", place, activity.read(path), text, concept(title), activity.name)


def effect_records(root: Path, drops: Counter) -> Iterator[Record]:
    """`sound` records of the recordings of the memory game and of the activities' effects."""
    yield from _memory_sounds(root, drops)
    for name, names in _NAMES.items():
        if not (root / f"{name}.rcc").is_file():
            continue
        activity = Activity(root, name, "gcompris/src" if name == "core" else None)
        for path in activity.files(r".*\.(ogg|wav)"):
            text = names.get(Path(path).stem.rstrip("0123456789"))
            if text is None:
                drops["sound that no name describes"] += 1
            else:
                yield activity_sound(activity, path, text, text)


def _memory_sounds(root: Path, drops: Counter) -> Iterator[Record]:
    activity = Activity(root, "memory-sound")
    for path in activity.files(r"resource/(LR|guitar_).*\.ogg"):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", re.sub(r"^LR|_?LA|_?[Cc]ut\b|_son|\d+", "", Path(path).stem))
        name = " ".join(words.replace("Cut", "").casefold().split())
        name = _REWORDED.get(name, name)
        if not name or name in _VAGUE:
            drops["sound that no name describes"] += 1
        else:
            yield activity_sound(activity, path, name, name)
