"""Sounds as nobody should make them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from tests.media import noise, numbered_frames, sound_bytes, sound_only_mp4, tone, video_bytes
from tests.processing.hostile_file import HostileFile, patched


def odd_sounds() -> Iterator[HostileFile]:
    """Sounds of unusual rates, channels, codecs and contents that are sound nevertheless."""

    def taken(name: str, data: bytes) -> HostileFile:
        return HostileFile("audio", name, data, "taken")

    for rate in (1_000, 8_000, 11_025, 44_100, 96_000, 192_000):
        yield taken(f"{rate} Hz.wav", sound_bytes(tone(0.2, rate), rate))
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "MS_ADPCM", "GSM610"):
        yield taken(f"{subtype}.wav", sound_bytes(tone(0.2, 8_000), 8_000, subtype=subtype))
    for format, subtype in (
        ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None), ("AIFF", None), ("AU", None),
        ("CAF", "ALAC_16"), ("W64", None), ("RF64", None), ("VOC", "PCM_16"),
    ):  # fmt: skip
        data = sound_bytes(tone(0.3, 48_000), 48_000, format, subtype)
        yield taken(f"{subtype or format}.{format.lower()}", data)
    for channels in (2, 6, 8, 33):
        yield taken(f"{channels} channels.wav", sound_bytes(np.stack([noise(0.1)] * channels, 1)))
    yield taken("5.1.flac", sound_bytes(np.stack([tone(0.1, 48_000)] * 6, 1), 48_000, "FLAC"))
    for name, samples in {
        "one sample": np.ones(1), "one direction": np.full(4_000, 0.7), "clipped": np.sign(tone(0.3)),
        "silence": np.zeros(4_000), "beyond full scale": 1e6 * noise(0.1), "denormal": np.full(999, 1e-42),
    }.items():  # fmt: skip
        yield taken(f"{name}.wav", sound_bytes(samples.astype(np.float32), subtype="FLOAT"))
    yield taken("wrong.mp3", sound_bytes(tone(0.1)))
    yield taken("phone.gsm", sound_bytes(tone(0.2, 8_000), 8_000, "RAW", "GSM610"))
    yield taken("track.m4a", sound_only_mp4(0.2))
    yield taken("clip with sound.wav", video_bytes(numbered_frames(3), sound=tone(0.2, 48_000)))


def broken_sounds() -> Iterator[HostileFile]:
    """Sounds without samples, with samples that are no numbers, with headers that lie."""

    def refused(name: str, data: bytes, said: str) -> HostileFile:
        return HostileFile("audio", name, data, "refused", said)

    yield refused("nothing.wav", b"", "zero length")
    for format in ("WAV", "FLAC", "AIFF", "AU"):
        yield refused(f"no samples.{format.lower()}", sound_bytes(np.zeros(0), format=format), "")
    for value in (np.nan, np.inf, -np.inf):
        samples = tone(0.2)
        samples[7] = value
        for subtype in ("FLOAT", "DOUBLE"):
            yield refused(f"{value} {subtype}.wav", sound_bytes(samples, subtype=subtype), "NaN or infinite")
    yield refused("far too loud.wav", sound_bytes(np.float32(1e37) * noise(0.2), subtype="FLOAT"), "too large")
    yield refused("beyond float32.wav", sound_bytes(np.full(99, 1e300), subtype="DOUBLE"), "infinite")
    yield refused("over float32.wav", sound_bytes(np.full((99, 4), 3e38, np.float32), subtype="FLOAT"), "infinite")
    for rate in (0, 1, 999, 2**31 - 1, 2**32 - 1):
        yield refused(f"{rate} Hz.wav", patched(sound_bytes(noise(0.1)), b"fmt ", 8, "<I", rate), "")
    for channels in (1_025, 65_535):
        yield refused(f"{channels} channels.wav", patched(sound_bytes(noise(0.1)), b"fmt ", 6, "<H", channels), "")
    yield refused("hour.flac", sound_bytes(np.zeros(3600 * 1_000), 1_000, "FLAC"), "3600.0 s long")
    yield HostileFile("audio", "0 channels.wav", patched(sound_bytes(noise(0.1)), b"fmt ", 6, "<H", 0), "either")
    for length in (2**31 - 1, 2**32 - 1, 3):
        data = patched(sound_bytes(noise(0.1)), b"data", 4, "<I", length)
        yield HostileFile("audio", f"says {length} bytes.wav", data, "either")
    for total in (0, 2**36 - 1):
        data = bytearray(sound_bytes(noise(0.2), format="FLAC"))
        data[21:26] = bytes([data[21] & 0xF0 | total >> 32, *struct.pack(">I", total & 0xFFFFFFFF)])
        yield HostileFile("audio", f"says {total} samples.flac", bytes(data), "taken")
    for name in ("nothing but zeros.gsm", "nothing but zeros.mp3"):
        yield refused(name, bytes(660), "")
    for format in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF"):
        yield refused(f"header.{format.lower()}", sound_bytes(noise(0.2), format=format)[:36], "")
