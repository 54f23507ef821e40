from __future__ import annotations

import re

import pytest

from commonspace.errors import DataError
from data_prep.smil import blend, sample_frames

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">{}</svg>'


def attribute(frames: list[bytes], name: str) -> list[str | None]:
    found = [re.search(rf' {name}="([^"]*)"'.encode(), frame) for frame in frames]
    return [match[1].decode() if match else None for match in found]


def numbers(frames: list[bytes], name: str) -> list[float]:
    return [float(value) for value in attribute(frames, name) if value is not None]


def test_values_are_blended_over_the_duration_and_frozen():
    animation = '<animate attributeName="stroke-dashoffset" dur="1s" values="60;0" fill="freeze"/>'
    later = '<path opacity="0"><set attributeName="opacity" begin="2s" to="1"/></path>'
    frames, step = sample_frames(SVG.format(f"<path>{animation}</path>{later}"), 5)
    assert step == 0.5
    assert numbers(frames, "stroke-dashoffset") == [60, 30, 0, 0, 0]
    assert numbers(frames, "opacity") == [0, 0, 0, 0, 1]
    assert not any(b"animate" in frame or b"<set" in frame for frame in frames)


def test_an_animation_to_a_value_starts_from_what_is_written():
    animation = '<animate attributeName="r" begin="1s" dur="500ms" to="8" fill="freeze"/>'
    frames, _ = sample_frames(SVG.format(f'<circle r="4">{animation}</circle>'), 4)
    assert numbers(frames, "r") == [4, 4, 4, 8]
    opacity = '<animate attributeName="opacity" dur="1s" to="0" fill="freeze"/>'  # opaque where nothing is written
    assert numbers(sample_frames(SVG.format(f"<path>{opacity}</path>"), 3)[0], "opacity") == [1, 0.5, 0]


def test_key_times_place_the_values():
    animation = '<animate attributeName="r" dur="10s" keyTimes="0;0.2;1" values="0;10;20" repeatCount="indefinite"/>'
    frames, step = sample_frames(SVG.format(f"<circle>{animation}</circle>"), 5)
    assert step == 2.0  # eight seconds are the longest
    assert numbers(frames, "r") == [0, 10, 12.5, 15, 17.5]


def test_without_freeze_the_old_value_comes_back():
    short = '<animate attributeName="r" dur="1s" values="1;2"/>'
    long = '<animate attributeName="cx" dur="2s" values="0;1" fill="freeze"/>'
    frames, _ = sample_frames(SVG.format(f'<circle r="9">{short}{long}</circle>'), 5)
    assert numbers(frames, "r") == [1, 1.5, 2, 9, 9]


def test_a_rotation_is_a_transform():
    animation = (
        '<animateTransform attributeName="transform" type="rotate" dur="2s" values="0 12 12;90 12 12" fill="freeze"/>'
    )
    frames, _ = sample_frames(SVG.format(f"<g>{animation}</g>"), 3)
    values = [re.findall(r"[\d.]+", value) for value in attribute(frames, "transform")]
    assert all(value.startswith("rotate(") for value in attribute(frames, "transform"))
    assert [[float(number) for number in value] for value in values] == [[0, 12, 12], [45, 12, 12], [90, 12, 12]]


def test_paths_are_blended_number_by_number():
    assert blend("M5 5l7 7", "M5 5l7 0", 0.5) == "M 5.0000  5.0000l 7.0000  3.5000"
    # signs written without a space stay apart
    assert [float(n) for n in re.findall(r"-?[\d.]+", blend("l9-17", "l9-1", 0.5))] == [9, -9]
    assert blend("M5 5", "M5 5h3", 0.4) == "M5 5" and blend("M5 5", "M5 5h3", 0.6) == "M5 5h3"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("<path/>", "nothing in it is animated"),
        ('<path><animateMotion dur="1s" path="M0 0"/></path>', "animateMotion"),
        ('<path><animate attributeName="r" begin="x.begin+1s" dur="1s" to="1"/></path>', "time 'x.begin"),
        ('<path><animate attributeName="r" dur="1s"/></path>', "neither values nor an end"),
        ('<path><animate attributeName="r" dur="1s" values="1;2" keyTimes="0;0.5;1"/></path>', "do not fit"),
        ("<path>", "not an SVG"),
    ],
)
def test_what_is_not_covered_is_refused(body, word):
    with pytest.raises(DataError, match=word):
        sample_frames(SVG.format(body), 3)
