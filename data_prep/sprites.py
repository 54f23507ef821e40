"""Sprite sheets of the Flare engine: animation files, the enemy files that name their sounds, and tight crops.

An animation file names a sheet (`image=`) and has one section per action: `frames`, `duration` (of one pass, in ms),
`type` (looped, play_once, back_forth) and lines `frame=index,direction,x,y,width,height,offset_x,offset_y`, where the
offset says where in the crop the creature stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image as PILImage

from commonspace.errors import DataError

# Order of the direction index, read off rendered sprites: the engine's manual does not say.
DIRECTIONS = ("west", "northwest", "north", "northeast", "east", "southeast", "south", "southwest")
MAX_FRAMES = 8
_MAX_INCLUDES = 16


@dataclass(frozen=True)
class Frame:
    """One rectangle of the sheet, in px, and the point in it where the creature stands."""

    x: int
    y: int
    width: int
    height: int
    offset_x: int
    offset_y: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass
class Animation:
    """One action in all directions. `frames[direction, index]` holds only lines that could be read."""

    count: int = 0
    milliseconds: int = 0
    kind: str = "looped"
    frames: dict[tuple[int, int], Frame] = field(default_factory=dict)

    def directions(self) -> list[int]:
        return sorted({direction for direction, _ in self.frames})

    def clip(self, direction: int) -> list[Frame]:
        """The frames as the game plays them once, at most `MAX_FRAMES`; a back-and-forth pass returns.

        Raises:
            DataError: a frame is missing or its line was broken, or the clip has no length.
        """
        played = [self.frames.get((direction, index)) for index in range(self.count)]
        kept = [frame for frame in played if frame]
        if len(kept) < len(played) or not kept or self.milliseconds <= 0:
            raise DataError(f"direction {direction}: {len(kept)} of {self.count} frames, {self.milliseconds} ms")
        if self.kind == "back_forth":
            kept += kept[-2:0:-1]
        return kept[:MAX_FRAMES]

    @property
    def rate(self) -> float:
        """Frames per second."""
        return 1000 * self.count / self.milliseconds


def parse_animations(text: str) -> tuple[str | None, dict[str, Animation]]:
    """Sheet name (None where the file only changes another one) and animations by action."""
    image: str | None = None
    found: dict[str, Animation] = {}
    current: Animation | None = None
    for line in text.splitlines():
        section = re.fullmatch(r"\s*\[(\w+)\]\s*", line)
        key, _, value = line.strip().partition("=")
        if section:
            current = found.setdefault(section[1], Animation())
        elif key == "image":
            image = value.split(",")[0].strip()
        elif current is not None:
            _read_field(current, key, value)
    return image, found


def _read_field(animation: Animation, key: str, value: str) -> None:
    if key == "type":
        animation.kind = value.strip()
    elif key in ("frames", "duration"):
        digits = re.match(r"\d{1,6}", value)
        setattr(animation, "count" if key == "frames" else "milliseconds", int(digits[0]) if digits else 0)
    elif key == "frame":
        numbers = re.fullmatch(r"\s*(-?\d{1,5}(?:\s*,\s*-?\d{1,5}){7})\s*(?:,.*)?", value)
        if numbers:
            index, direction, *rest = (int(number) for number in numbers[1].split(","))
            animation.frames[direction, index] = Frame(*rest)


def crop_clip(sheet: PILImage.Image, frames: Sequence[Frame], side: int) -> list[PILImage.Image]:
    """The frames as RGB pictures [side x side] on white: one square crop around all of them, so nothing jumps.

    Raises:
        DataError: a frame lies outside the sheet or is empty.
    """
    for frame in frames:
        left, top, right, bottom = frame.box
        if min(left, top) < 0 or right > sheet.width or bottom > sheet.height or left >= right or top >= bottom:
            raise DataError(f"a frame covers {frame.box} of a sheet of {sheet.width}x{sheet.height}")
    left = min(-frame.offset_x for frame in frames)
    top = min(-frame.offset_y for frame in frames)
    right = max(frame.width - frame.offset_x for frame in frames)
    bottom = max(frame.height - frame.offset_y for frame in frames)
    square = max(right - left, bottom - top) + 4
    pictures = []
    for frame in frames:
        canvas = PILImage.new("RGB", (square, square), "white")
        sprite = sheet.crop(frame.box).convert("RGBA")
        place = ((square - left - right) // 2 - frame.offset_x, (square - top - bottom) // 2 - frame.offset_y)
        canvas.paste(sprite, place, sprite)
        pictures.append(canvas.resize((side, side), PILImage.Resampling.LANCZOS))
    return pictures


def layered_clip(layers: Sequence[tuple[PILImage.Image, Sequence[Frame]]]) -> tuple[PILImage.Image, list[Frame]]:
    """One sheet and its frames out of layers, back to front, that stand on the same point: one strip of pictures.

    Raises:
        DataError: no layer, layers of different lengths, or a frame outside its sheet.
    """
    lengths = {len(frames) for _, frames in layers}
    if len(lengths) != 1:
        raise DataError(f"layers have {sorted(lengths)} frames, not one number of them")
    flat = [frame for _, frames in layers for frame in frames]
    left, top = max(frame.offset_x for frame in flat), max(frame.offset_y for frame in flat)
    width = left + max(frame.width - frame.offset_x for frame in flat)
    height = top + max(frame.height - frame.offset_y for frame in flat)
    count = lengths.pop()
    strip = PILImage.new("RGBA", (width * count, height))
    for sheet, frames in layers:
        for number, frame in enumerate(frames):
            if min(frame.box[:2]) < 0 or frame.box[2] > sheet.width or frame.box[3] > sheet.height:
                raise DataError(f"a frame covers {frame.box} of a sheet of {sheet.width}x{sheet.height}")
            place = (number * width + left - frame.offset_x, top - frame.offset_y)
            strip.alpha_composite(sheet.crop(frame.box).convert("RGBA"), place)
    return strip, [Frame(number * width, 0, width, height, left, top) for number in range(count)]


def sound_effects(mods: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Animation file name -> action -> sound file, from the enemy files of the mods; later mods hide earlier files."""
    found: dict[str, dict[str, Path]] = {}
    for mod in mods:
        for path in sorted((mod / "enemies").rglob("*.txt")):
            animation: str | None = None
            sounds: dict[str, Path] = {}
            for key, value in _enemy_fields(path, mods, _MAX_INCLUDES):
                if key == "animations":
                    animation = value
                elif key.startswith("sfx_"):
                    action, _, file = value.rpartition(",")
                    target = _find(mods, file)
                    if target:
                        sounds.setdefault(action or key.removeprefix("sfx_"), target)
            if animation and sounds:
                found.setdefault(animation, sounds)
    return found


def _enemy_fields(path: Path, mods: Sequence[Path], includes: int) -> list[tuple[str, str]]:
    fields: list[tuple[str, str]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("INCLUDE ") and includes:
            target = _find(mods, line.removeprefix("INCLUDE "))
            fields += _enemy_fields(target, mods, includes - 1) if target else []
        elif "=" in line:
            key, _, value = line.strip().partition("=")
            fields.append((key, value.strip()))
    return fields


def _find(mods: Sequence[Path], name: str) -> Path | None:
    """The file of that name in the last mod that has it; names that climb out of a mod find nothing."""
    for mod in reversed(mods):
        path = (mod / name.strip()).resolve()
        if path.is_relative_to(mod.resolve()) and path.is_file():
            return path
    return None
