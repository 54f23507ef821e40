"""Chinese characters written stroke by stroke: a clip of each, and what it means."""

from __future__ import annotations

import bz2
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw

from commonspace.content import Content, Video
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.clips import encode_clip
from data_prep.keys import record_key
from data_prep.source import Package, Source

_NAME = "hanzi"
_UNIHAN = "usr/share/unicode/Unihan_{}.txt.bz2"
_SIDE, _FRAMES, _RATE = 112, 8, 4.0  # px, frames of a clip, frames a second
_EM, _BASELINE = 1024, 900  # the strokes' own square, y pointing up from the baseline
_PEN = 11  # px
_GRADES = 4  # of the schools of Hong Kong: characters that children learn first


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`video` records of the characters of the first school years that Unihan defines in English."""
    readings = _table(folders["unicode-data"] / _UNIHAN.format("Readings"), {"kDefinition", "kMandarin"})
    grades = _table(folders["unicode-data"] / _UNIHAN.format("DictionaryLikeData"), {"kGradeLevel"})
    for character, fields in sorted(grades.items()):
        known = readings.get(character, {})
        if int(fields["kGradeLevel"]) > _GRADES:
            drops["character of a later school year"] += 1
        elif "kDefinition" not in known or "kMandarin" not in known:
            drops["character without a definition"] += 1
        elif (clip := _clip(folders["hanzi-writer-data"] / f"package/{character}.json")) is None:
            drops["character without strokes"] += 1
        else:
            meaning = "; ".join(known["kDefinition"].split("; ")[:3])
            sound = known["kMandarin"].split()[0]
            yield Record(
                key=record_key(_NAME, f"{ord(character):x}"),
                task="video",
                source=_NAME,
                concept=f"hanzi:{character}",
                queries=(Variant(Content(Video(clip, name=f"{_NAME}/{ord(character):x}.mp4"))),),
                positives=(
                    Variant(Content(f"the character {character} ({sound}) being written: {meaning}"), "en"),
                    Variant(Content(f"a Chinese character being written that means {meaning}"), "en"),
                ),
                extra={"character": character, "has_sound": False},
            )


def _table(path: Path, wanted: set[str]) -> dict[str, dict[str, str]]:
    """{character: {field: value}} of a Unihan file."""
    found: dict[str, dict[str, str]] = {}
    try:
        lines = bz2.decompress(path.read_bytes()).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{_NAME}: {path} cannot be read ({error}); delete its package's folder and build again"
        ) from error
    for line in lines:
        match = re.fullmatch(r"U\+([0-9A-F]{4,6})\t(\w+)\t(.+)", line)
        if match and match[2] in wanted:
            found.setdefault(chr(int(match[1], 16)), {})[match[2]] = match[3]
    return found


def _clip(path: Path) -> bytes | None:
    """The strokes drawn along their middle lines in the order of writing, as mp4 bytes."""
    if not path.is_file():
        return None
    try:
        strokes = [np.array(points, dtype=float) for points in json.loads(path.read_text(encoding="utf-8"))["medians"]]
        lines = [_pixels(points) for points in strokes if len(points) > 1]
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{_NAME}: {path} cannot be read ({error}); delete its package's folder and build again"
        ) from error
    if not lines:
        return None
    lengths = [np.hypot(*np.diff(line, axis=0).T).sum() for line in lines]
    shares = np.linspace(1 / _FRAMES, 1, _FRAMES) * sum(lengths)
    return encode_clip([_frame(lines, lengths, drawn) for drawn in shares], _RATE)


def _pixels(points: np.ndarray) -> np.ndarray:
    """[points, 2] of the strokes' square to pixels, y pointing down."""
    return np.stack([points[:, 0], _BASELINE - points[:, 1]], axis=1) * (_SIDE / _EM)


def _frame(lines: list[np.ndarray], lengths: list[float], drawn: float) -> PILImage.Image:
    """The character when so many pixels of its strokes are drawn."""
    picture = PILImage.new("RGB", (_SIDE, _SIDE), "white")
    pen = ImageDraw.Draw(picture)
    for line, length in zip(lines, lengths, strict=True):
        kept = _cut(line, drawn)
        pen.line([tuple(point) for point in kept], fill="black", width=_PEN, joint="curve")
        drawn -= length
        if drawn <= 0:
            break
    return picture


def _cut(line: np.ndarray, length: float) -> np.ndarray:
    """The first `length` pixels of a line."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    ends = np.concatenate([[0.0], np.cumsum(steps)])
    if length >= ends[-1]:
        return line
    last = [np.interp(length, ends, line[:, axis]) for axis in (0, 1)]
    return np.concatenate([line[: np.searchsorted(ends, length)], [last]])


SOURCE = Source(
    name=_NAME,
    packages=(
        Package(
            client="npm",
            name="hanzi-writer-data",
            version="2.0.1",
            filename="hanzi-writer-data-2.0.1.tgz",
            sha256="72baf3d82b114e60d6e40ea05f24d2262a05cd39d544e2f322ba2fceb7beff15",
            bytes=13484680,
        ),
        Package(
            client="apt",
            name="unicode-data",
            version="15.0.0-1",
            filename="unicode-data_15.0.0-1_all.deb",
            sha256="5efef23bbb1c6a133ecbdd63a2cfa07159ccacf5466a49e2426101c5ecd691fc",
            bytes=7983784,
        ),
    ),
    licence="Arphic Public License (strokes), Unicode-3.0 (Unihan)",
    provenance="npm hanzi-writer-data 2.0.1; Unicode 15's Unihan, as packed by Debian",
    tiers=frozenset({"full"}),
    records=records,
)
