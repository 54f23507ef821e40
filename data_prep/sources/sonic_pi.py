"""Sonic Pi's samples: drums, tabla, guitar, electronic and other sounds, named by their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.data.sample import Record
from commonspace.errors import DataError
from data_prep.instruments import instrument_name, short_flac
from data_prep.sounds import sound_record, usable_sounds
from data_prep.source import Package, Source
from data_prep.split import concept

_NAME = "sonic-pi"
_ROOT = "usr/share/sonic-pi/samples"
_SECONDS = 8.0  # of a loop or an ambience
# What the first word of a file name says; how it goes on is said after it. Strokes of a tabla are named by syllables.
_FAMILIES = {
    "ambi": "ambient sound",
    "bass": "synthesizer bass",
    "bd": "bass drum",
    "drum": "",
    "elec": "electronic",
    "glitch": "glitch",
    "guit": "guitar",
    "loop": "music loop",
    "mehackit": "electronic",
    "misc": "",
    "perc": "percussion",
    "sn": "snare drum",
    "tabla": "tabla stroke",
    "vinyl": "vinyl record",
}
# File names that say nothing about what is heard, beyond their family.
_PLAIN = frozenset({"bd", "sn", "glitch", "loop", "tabla"})
_KEPT = {"loop_tabla": "tabla music loop", "loop_3d_printer": "3D printer", "drum_roll": "drum roll"}


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`sound` records."""
    yield from usable_sounds(_records(folders["sonic-pi-samples"] / _ROOT, drops), drops)


def _records(root: Path, drops: Counter) -> Iterator[Record]:
    for path in sorted(root.glob("*.flac")):
        name = sample_name(path.stem)
        if not name:
            drops["sound that no name describes"] += 1
            continue
        try:
            data = short_flac(path, _SECONDS)
        except DataError:
            drops["sound that cannot be read"] += 1
            continue
        yield sound_record(_NAME, (path.name,), data, name, concept(name), path.stem.split("_")[0])


def sample_name(stem: str) -> str:
    """ "elec_blip2" -> "electronic blip", "bd_haus" -> "bass drum"; "" for a family that is not known."""
    family, _, rest = stem.partition("_")
    if family not in _FAMILIES:
        return ""
    if stem in _KEPT:
        return _KEPT[stem]
    rest = rest.replace("bass", "bassdrum") if family == "drum" else rest
    detail = "" if family in _PLAIN else instrument_name(rest)
    return " ".join(part for part in (_FAMILIES[family], detail) if part)


SOURCE = Source(
    name=_NAME,
    packages=(
        Package(
            client="apt",
            name="sonic-pi-samples",
            version="3.2.2~repack-8",
            filename="sonic-pi-samples_3.2.2~repack-8_all.deb",
            sha256="25f2312d2fae005e6ad0f4726b8ed3084e776006a5a132083506e960224ac79d",
            bytes=21882696,
        ),
    ),
    licence="CC0 (nearly all samples), CC-BY-SA-4.0, MIT and Zlib (some)",
    provenance="Sonic Pi 3.2.2's samples, as packed by Debian",
    tiers=frozenset({"full"}),
    records=records,
)
