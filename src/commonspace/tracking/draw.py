"""Curves in the terminal, in braille: two by four dots a character, one colour a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.text import Text

COLOURS = ("cyan", "magenta", "yellow", "green", "red", "blue", "bright_white", "bright_black")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row, then column, of one character


@dataclass(frozen=True)
class Curve:
    """Points of one line; those that are no numbers are left out."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]

    @property
    def points(self) -> list[tuple[float, float]]:
        return [(x, y) for x, y in zip(self.xs, self.ys, strict=True) if math.isfinite(x) and math.isfinite(y)]


def draw(curves: Sequence[Curve], title: str, width: int = 72, height: int = 14) -> Text:
    """A chart with its smallest and largest values at the edges and a legend below.

    width, height  characters of the plot itself. Where two lines meet the later one's colour is seen.
    """
    shown = [curve for curve in curves if curve.points]
    text = Text(f"{title}\n", style="bold")
    if not shown:
        return text.append("nothing to draw: no run has a value of that name\n", style="not bold")
    xs, ys = zip(*(point for curve in shown for point in curve.points), strict=True)
    masks = [[0] * width for _ in range(height)]
    owners = [[0] * width for _ in range(height)]
    for number, curve in enumerate(shown):
        for column, row in _dots(curve.points, (min(xs), max(xs)), (min(ys), max(ys)), width * 2, height * 4):
            masks[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
            owners[row // 4][column // 2] = number
    edge = {0: f"{max(ys):.4g}", height - 1: f"{min(ys):.4g}"}
    margin = max(map(len, edge.values()))
    for row in range(height):
        text.append(f"{edge.get(row, ''):>{margin}} ", style="not bold")
        for mask, owner in zip(masks[row], owners[row], strict=True):
            text.append(chr(0x2800 + mask) if mask else " ", style=f"not bold {COLOURS[owner % len(COLOURS)]}")
        text.append("\n")
    text.append(f"{'':>{margin}} {min(xs):<{width // 2}.6g}{max(xs):>{width - width // 2}.6g}\n", style="not bold")
    for number, curve in enumerate(shown):
        text.append(f"{'':>{margin}} ━ {curve.label}\n", style=f"not bold {COLOURS[number % len(COLOURS)]}")
    return text


def _dots(
    points: Sequence[tuple[float, float]], xs: tuple[float, float], ys: tuple[float, float], width: int, height: int
) -> set[tuple[int, int]]:
    """(column, row from the top) of every dot of a line through the points."""
    ordered = sorted(points, key=lambda point: point[0])
    places = [(_scaled(x, xs) * (width - 1), (1 - _scaled(y, ys)) * (height - 1)) for x, y in ordered]
    found = {(round(x), round(y)) for x, y in places}
    for (x1, y1), (x2, y2) in pairwise(places):
        steps = max(1, math.ceil(max(abs(x2 - x1), abs(y2 - y1))))
        found |= {(round(x1 + (x2 - x1) * s / steps), round(y1 + (y2 - y1) * s / steps)) for s in range(steps + 1)}
    return found


def _scaled(value: float, span: tuple[float, float]) -> float:
    return 0.5 if span[0] == span[1] else (value - span[0]) / (span[1] - span[0])
