"""Curves in braille: dots where the numbers are."""

from __future__ import annotations

import math

from commonspace.tracking.draw import Curve, draw


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """(column, row) of every dot of the plot's lines, read back from the characters."""
    bits = {
        0x01: (0, 0),
        0x02: (0, 1),
        0x04: (0, 2),
        0x40: (0, 3),
        0x08: (1, 0),
        0x10: (1, 1),
        0x20: (1, 2),
        0x80: (1, 3),
    }
    return {
        (column * 2 + x, row * 4 + y)
        for row, line in enumerate(lines)
        for column, character in enumerate(line)
        if 0x2800 <= ord(character) < 0x2900
        for bit, (x, y) in bits.items()
        if (ord(character) - 0x2800) & bit
    }


def plot(text: str, height: int, margin: int) -> list[str]:
    return [line[margin + 1 :] for line in text.splitlines()[1 : height + 1]]


def test_a_straight_line_runs_from_corner_to_corner() -> None:
    text = draw([Curve("up", [0, 10], [0, 1])], "loss", width=10, height=5).plain
    found = dots(plot(text, 5, 1))
    assert {(0, 19), (19, 0)} <= found
    assert all(abs(x - (19 - y)) <= 1 for x, y in found) and {x for x, _ in found} == set(range(20))
    assert text.splitlines()[0] == "loss" and "up" in text and text.splitlines()[1].startswith("1 ")


def test_order_does_not_matter_gaps_are_left_out_and_a_constant_is_a_line() -> None:
    one = draw([Curve("a", [0, 1, 2, 3], [1.0, 4.0, math.nan, 2.0])], "x").plain
    assert one == draw([Curve("a", [3, 0, 1], [2.0, 1.0, 4.0])], "x").plain
    flat = dots(plot(draw([Curve("a", [0, 5], [2.0, 2.0])], "x", width=6, height=3).plain, 3, 1))
    assert len({y for _, y in flat}) == 1 and len(flat) == 12


def test_nothing_to_draw_is_said() -> None:
    assert "nothing to draw" in draw([Curve("a", [], [])], "x").plain


def test_every_curve_has_its_colour_and_its_name() -> None:
    text = draw([Curve("a", [0, 1], [0, 1]), Curve("b", [0, 1], [1, 0])], "x")
    styles = {str(span.style) for span in text.spans}
    assert "not bold cyan" in styles and "not bold magenta" in styles
