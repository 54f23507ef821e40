"""Still frames out of an SVG that is animated by SMIL (w3.org/TR/SVG11/animate.html): the part of it that icons use.

Covered: `animate`, `set` and `animateTransform` with `values`, `from`, `to` and `keyTimes`, `begin` as a number of
seconds, frozen or repeated without end. Not covered, and refused: motion along a path, and animations that begin on
another one's event.
"""

from __future__ import annotations

import copy
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from commonspace.errors import DataError

_ANIMATIONS = frozenset({"animate", "set", "animateTransform"})
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_OPAQUE = frozenset({"opacity", "fill-opacity", "stroke-opacity"})  # attributes that are 1 where they are not written
_LONGEST = 8.0  # seconds


@dataclass(frozen=True)
class _Animation:
    target: ElementTree.Element
    attribute: str
    values: tuple[str, ...]
    times: tuple[float, ...]  # of the values, as shares of the duration
    begin: float
    duration: float
    repeats: bool
    freezes: bool
    transform: str | None

    def value_at(self, time: float) -> str | None:
        """The attribute's value at `time` seconds, or None where this animation is not in effect."""
        share = (time - self.begin) / self.duration if self.duration else float(time >= self.begin)
        if time < self.begin or (share > 1 and not self.repeats and not self.freezes):
            return None
        share = share % 1.0 if self.repeats else min(share, 1.0)
        place = min(bisect_right(self.times, share) - 1, len(self.values) - 1)
        if place == len(self.values) - 1 or not self.duration:
            value = self.values[-1]
        else:
            span = self.times[place + 1] - self.times[place]
            value = blend(
                self.values[place], self.values[place + 1], (share - self.times[place]) / span if span else 1.0
            )
        return f"{self.transform}({value})" if self.transform else value


def blend(one: str, other: str, share: float) -> str:
    """Between two values: number by number where they are written alike, else the nearer one."""
    if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
        return one if share < 0.5 else other
    ends = iter(_NUMBER.findall(other))

    def mix(match: re.Match[str]) -> str:
        start = float(match[0])
        # paths may write "9-17" without a space, which must not become one number when the sign goes
        return f" {start + (float(next(ends)) - start) * share:.4f}"

    return _NUMBER.sub(mix, one).strip()


def sample_frames(svg: str, count: int) -> tuple[list[bytes], float]:
    """`count` still SVGs from the first state to the last, and the seconds between them.

    A drawing that comes to rest is sampled until then, one that repeats until its first period is over.

    Raises:
        DataError: it is not SVG, is not animated, or uses what is not covered.
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise DataError(f"not an SVG ({error})") from error
    animations = [_read(element, parent) for parent in root.iter() for element in parent if _is_animation(element)]
    if not animations:
        raise DataError("nothing in it is animated")
    end = min(max(item.begin + item.duration for item in animations), _LONGEST)
    times = [end * number / (count - 1) for number in range(count)]
    return [_still(root, animations, time) for time in times], end / (count - 1)


def _is_animation(element: ElementTree.Element) -> bool:
    name = _local(element)
    if name in ("animateMotion", "animateColor"):
        raise DataError(f"<{name}> is not covered")
    return name in _ANIMATIONS


def _local(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1] if isinstance(element.tag, str) else ""


def _read(element: ElementTree.Element, target: ElementTree.Element) -> _Animation:
    attribute = element.get("attributeName", "")
    base = target.get(attribute) or ("1" if attribute in _OPAQUE else "0")
    values = _values(element, base)
    constant = _local(element) == "set"
    return _Animation(
        target=target,
        attribute=attribute,
        values=values,
        times=_times(element, len(values)),
        begin=_seconds(element.get("begin", "0s")),
        duration=0.0 if constant else _seconds(element.get("dur", "")),
        repeats=element.get("repeatCount") == "indefinite",
        freezes=constant or element.get("fill") == "freeze",
        transform=element.get("type") if _local(element) == "animateTransform" else None,
    )


def _values(element: ElementTree.Element, base: str) -> tuple[str, ...]:
    if element.get("values"):
        return tuple(value.strip() for value in element.get("values", "").split(";") if value.strip())
    if element.get("to") is None:
        raise DataError("an animation has neither values nor an end")
    return (element.get("from", base), element.get("to", "")) if _local(element) != "set" else (element.get("to", ""),)


def _times(element: ElementTree.Element, count: int) -> tuple[float, ...]:
    written = element.get("keyTimes")
    if not written:
        return tuple(number / max(count - 1, 1) for number in range(count))
    times = tuple(float(time) for time in written.split(";") if time.strip())
    if len(times) != count or list(times) != sorted(times):
        raise DataError(f"keyTimes {written!r} do not fit {count} values")
    return times


def _seconds(text: str) -> float:
    """ "0.6s" -> 0.6."""
    match = re.fullmatch(r"\s*(\d*\.?\d+)(ms|s)?\s*", text)
    if not match:
        raise DataError(f"time {text!r} is not covered")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _still(root: ElementTree.Element, animations: Sequence[_Animation], time: float) -> bytes:
    """The drawing at one time: of several animations of one attribute the one that began last counts."""
    originals = [(item.target, dict(item.target.attrib)) for item in animations]
    for item in sorted(animations, key=lambda item: item.begin):
        value = item.value_at(time)
        if value is not None:
            item.target.set(item.attribute, value)
    frame = copy.deepcopy(root)
    for target, attributes in originals:
        target.attrib.clear()
        target.attrib.update(attributes)
    for parent in list(frame.iter()):
        for child in [child for child in parent if _local(child) in _ANIMATIONS]:
            parent.remove(child)
    return ElementTree.tostring(frame)
