from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import pytest

from commonspace.errors import ContentError
from commonspace.processing.decoding import CONTAINERS, cause, container_options, decoding
from tests.media import numbered_frames, video_bytes


@pytest.mark.parametrize("error", [struct.error("short"), KeyError(7), MemoryError(), OSError(5, "I/O")])
def test_whatever_is_raised_names_the_file(error: Exception):
    message = r"^a.png: is damaged \(.+\); replace the file"
    with pytest.raises(ContentError, match=message) as caught, decoding("a.png", "is damaged"):
        raise error
    assert caught.value.__cause__ is error


def test_an_error_that_names_its_file_stays_as_it_is():
    with pytest.raises(ContentError, match="^b: itself$"), decoding("a.png", "is damaged"):
        raise ContentError("b: itself")


def test_a_cause_is_one_line_without_addresses():
    assert cause(OSError(2, "No such file")) == "No such file"
    assert cause(MemoryError()) == "MemoryError"
    said = cause(ValueError("Error opening <_io.BytesIO object at 0x7f2a5cfd2ca0>: Format\nnot recognised."))
    assert said == "Format not recognised"
    assert len(cause(ValueError("a" * 9999))) <= 160


def test_a_container_reads_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "other.mp4").write_bytes(video_bytes(numbered_frames(3)))
    monkeypatch.chdir(tmp_path)
    playlist = b"ffconcat version 1.0\nfile other.mp4\n"
    with av.open(io.BytesIO(playlist)) as container:
        assert len(container.streams.video) == 1, "FFmpeg by itself follows it, or this test shows nothing"
    with pytest.raises(av.error.FFmpegError):
        av.open(io.BytesIO(playlist), **container_options(10_000))


def test_every_container_exists():
    known = {name for full in av.formats_available for name in full.split(",")}
    assert set(CONTAINERS) <= known
