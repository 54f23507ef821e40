"""docs/inputs.md states formats and limits; they are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from commonspace.content import MAX_FILE_BYTES
from commonspace.processing import audio, svg
from commonspace.processing.decoding import CONTAINERS
from commonspace.processing.image import FORMATS
from commonspace.processing.preprocessing import Preprocessing

TEXT = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8")
CELLS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if line.startswith("|")]
ROWS = {name: rest for name, *rest in CELLS}


def test_every_format_is_named_and_none_else():
    assert ROWS["Image"][0].split() == list(FORMATS)
    words = re.findall(r"\w+", ROWS["Video"][0].replace("animated WebP", ""))
    assert [word for word in words if word not in ("bare", "streams", "of")] == [*CONTAINERS[: CONTAINERS.index("ogg")]]


def test_limits_are_the_defaults():
    stated = re.findall(r"`(\w+)` (\d+)", TEXT)
    assert {name for name, _ in stated} == {
        "image_max_pixels", "max_audio_seconds", "max_video_seconds", "max_images", "max_tokens"
    }  # fmt: skip
    for name, value in stated:
        assert getattr(Preprocessing(), name) == int(value)
    assert ROWS["Any file"][1] == f"{MAX_FILE_BYTES} bytes"
    assert ROWS["SVG"][1] == f"{svg.SECONDS} s of processor time, {svg.MEMORY >> 20} MiB"
    assert ROWS["Rate of a sound"][1] == f"{audio.MIN_RATE} to {audio.MAX_RATE} Hz"
    assert ROWS["Channels of an array"][1] == str(audio.MAX_CHANNELS)
