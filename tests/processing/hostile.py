"""Files as nobody should make them: odd, broken and hostile media, generated from a seed.

`files()` yields them. Those that a decoder must take or refuse say so; with bytes changed at random it may do either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np

from tests.media import numbered_frames, picture_bytes, sound_bytes, tone, video_bytes
from tests.processing.hostile_file import PARTS, SEED, HostileFile, grain
from tests.processing.hostile_images import broken_images, drawings, odd_images
from tests.processing.hostile_sounds import broken_sounds, odd_sounds
from tests.processing.hostile_videos import broken_videos, odd_videos


def files() -> Iterator[HostileFile]:
    """Every file, about 500, the same ones each time; their names differ."""
    for make in (odd_images, broken_images, drawings, odd_sounds, broken_sounds, odd_videos, broken_videos, strangers):
        yield from make()
    yield from mutations()


def strangers() -> Iterator[HostileFile]:
    """What is no medium at all, or one of another kind, passed as each kind."""
    generator = np.random.default_rng(SEED)
    others = {
        "page.html": b"<!DOCTYPE html><html><body>not found</body></html>",
        "archive.zip": b"PK\x03\x04" + bytes(60),
        "pointer.lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "words.txt": b"nothing to see, nothing to hear\n" * 9,
        "noise.bin": generator.bytes(3_000),
        "byte.bin": b"\x00",
        "list.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        "list.ffconcat": b"ffconcat version 1.0\nfile other.mp4\n",
        "call.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
        "manifest.mpd": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>',
        "bytecode.bin": b"\x80\x05\x95" + bytes(40),
    }
    for kind in PARTS:
        for name, data in others.items():
            yield HostileFile(kind, f"{name} as {kind}", data, "refused")
    yield HostileFile("image", "sound as image.png", sound_bytes(tone(0.1)), "refused")
    yield HostileFile("image", "clip as image.png", video_bytes(numbered_frames(2)), "refused")
    yield HostileFile("audio", "picture as audio.wav", picture_bytes(grain()), "refused")
    yield HostileFile(
        "audio", "silent clip as audio.wav", video_bytes(numbered_frames(2)), "refused", "no audio stream"
    )
    yield HostileFile("video", "picture as video.mp4", picture_bytes(grain(), "JPEG"), "refused")
    yield HostileFile("video", "sound as video.mp4", sound_bytes(tone(0.1)), "refused", "only sound")


def mutations() -> Iterator[HostileFile]:
    """Small sound files of each format with bytes flipped, cut off, taken out, put in or repeated at random."""
    generator = np.random.default_rng(SEED)
    for file in _sound_files():
        for change in (_flip, _flip, _flip_header, _cut, _take_out, _put_in, _repeat):
            data = change(file.data, generator)
            yield replace(
                file, data=data, name=f"{change.__name__[1:]} {len(data)} {generator.integers(10**6)} {file.name}"
            )


@cache
def _sound_files() -> tuple[HostileFile, ...]:
    wanted = {
        "image": ("png", "jpeg", "webp", "gif", "avif", "tiff", "bmp", "jpeg2000", "qoi", "tga", "ico", "svg", "sgi"),
        "audio": ("wav", "flac", "ogg", "mp3", "aiff", "m4a", "caf", "w64"),
        "video": ("mp4", "webm", "avi", "h264", "mpegts", "matroska", "flv", "gif", "mov"),
    }  # fmt: skip
    found = {}
    for file in (*odd_images(), *drawings(), *odd_sounds(), *odd_videos()):
        key = (file.kind, file.name.rpartition(".")[2])
        if file.outcome == "taken" and len(file.data) < 30_000 and key[1] in wanted[file.kind]:
            found[key] = replace(file, outcome="either")
    assert len(found) == sum(map(len, wanted.values())), "a format has no sound file to change"
    return tuple(found.values())


def _flip(data: bytes, generator: np.random.Generator) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    places = generator.integers(0, len(data), max(2, len(data) // 200))
    changed[places] ^= generator.integers(1, 256, len(places), np.uint8)
    return changed.tobytes()


def _flip_header(data: bytes, generator: np.random.Generator) -> bytes:
    return data[:4] + _flip(data[4:200], generator) + data[200:]


def _cut(data: bytes, generator: np.random.Generator) -> bytes:
    return data[: generator.integers(1, len(data))]


def _take_out(data: bytes, generator: np.random.Generator) -> bytes:
    start = int(generator.integers(0, len(data)))
    return data[:start] + data[start + int(generator.integers(1, 64)) :]


def _put_in(data: bytes, generator: np.random.Generator) -> bytes:
    start = int(generator.integers(0, len(data)))
    return data[:start] + generator.bytes(int(generator.integers(1, 64))) + data[start:]


def _repeat(data: bytes, generator: np.random.Generator) -> bytes:
    start, end = sorted(generator.integers(0, len(data), 2))
    return data[:end] + data[start:]
