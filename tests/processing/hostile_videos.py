"""Clips as nobody should make them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from PIL import Image as pil

from tests.media import numbered_frames, picture_bytes, sound_only_mp4, tone, video_bytes
from tests.processing.hostile_file import HostileFile, patched


def odd_videos() -> Iterator[HostileFile]:
    """Clips of unusual codecs, time stamps and shapes that are sound nevertheless."""

    def taken(name: str, data: bytes) -> HostileFile:
        return HostileFile("video", name, data, "taken")

    for format, codec, pixels in (
        ("mp4", "libx264", "yuv420p"), ("webm", "libvpx", "yuv420p"), ("avi", "mpeg4", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"), ("h264", "libx264", "yuv420p"), ("mpegts", "mpeg2video", "yuv420p"),
        ("matroska", "ffv1", "bgra"), ("flv", "flv", "yuv420p"), ("gif", "gif", "rgb8"), ("mov", "png", "rgb48be"),
    ):  # fmt: skip
        yield taken(f"{codec}.{format}", video_bytes(numbered_frames(20), 25, format, codec, pixels))
    yield taken("with sound.mp4", video_bytes(numbered_frames(5), sound=tone(0.4, 48_000)))
    yield taken("wrong.avi", video_bytes(numbered_frames(3)))
    yield taken("one frame.mp4", video_bytes(numbered_frames(1)))
    yield taken("two pixels.mp4", video_bytes(numbered_frames(3, 2, 2)))
    yield taken("ribbon.mkv", video_bytes(numbered_frames(2, 2, 8_000), 10, "matroska", "ffv1", "bgra"))
    yield taken("uneven.mkv", _clip([0, 1, 2, 500, 501, 9_000, 9_001, 9_500, 9_900, 9_990, 9_991]))
    yield taken("far from zero.mkv", _clip([10**7 + 100 * i for i in range(12)]))
    for name, matrix in {
        "quarter": (0, 65536, 0, -65536, 0, 0), "half": (-65536, 0, 0, 0, -65536, 0),
        "askew": (46341, 46341, 0, -46341, 46341, 0), "flat": (0,) * 6, "huge": (2**31 - 1,) * 6,
    }.items():  # fmt: skip
        data = patched(video_bytes(numbered_frames(3)), b"tkhd", 44, ">9i", *matrix, 0, 0, 1 << 30)
        yield taken(f"turned {name}.mp4", data)
    for size in (0, 65_535):
        data = patched(video_bytes(numbered_frames(3)), b"avc1", 28, ">HH", size, size)
        yield HostileFile("video", f"says {size} pixels.mp4", data, "either")
    frames = [pil.fromarray(frame) for frame in numbered_frames(12)]
    for duration in (0, 40):
        options = {"save_all": True, "append_images": frames[1:], "duration": duration}
        yield taken(f"each {duration} ms.webp", picture_bytes(frames[0], "WEBP", **options))


def broken_videos() -> Iterator[HostileFile]:
    """Clips without frames, with lies in their headers, or that name other files."""

    def refused(name: str, data: bytes, said: str = "") -> HostileFile:
        return HostileFile("video", name, data, "refused", said)

    whole = video_bytes(numbered_frames(5))
    yield refused("nothing.mp4", b"", "without frames")
    yield refused("only sound.mp4", sound_only_mp4(0.2), "only sound")
    yield refused("no frames.mkv", _clip([]))
    yield refused("too wide.mkv", _clip([0, 40], (400, 300), codec="libx264", shape=(200, 1)), "80000 x 300")
    yield refused("too large.mkv", _clip([0], size=(1_002, 1_000)), "image_max_pixels")
    yield refused("too long.mkv", _clip([0, 10**6]), "s long")
    yield refused("eternal.mkv", _clip([0, 2**40]), "s long")
    yield refused("cut off.mp4", whole[: len(whole) // 2], "")
    yield refused("header.mp4", whole[:40], "")
    yield HostileFile("video", "no index.mp4", whole.replace(b"moov", b"free"), "either")
    for entries in (0, 100_000_000, 2**32 - 1):
        data = patched(patched(whole, b"stsz", 8, ">II", 1, entries), b"stsc", 12, ">III", 1, entries, 1)
        yield HostileFile("video", f"says {entries} frames.mp4", data, "either")
    for step in (0, 2**31 - 1, 2**32 - 1):
        yield HostileFile("video", f"frames last {step}.mp4", patched(whole, b"stts", 16, ">I", step), "either")
    for seconds in (0, 2**32 - 1):
        data = patched(whole, b"mvhd", 16, ">II", 1, seconds)
        yield HostileFile("video", f"says {seconds} s.mp4", data, "either")


def _clip(
    stamps: list[int], size: tuple[int, int] = (32, 24), codec: str = "ffv1", shape: tuple[int, int] = (1, 1)
) -> bytes:
    """A Matroska clip whose frames are shown at `stamps` (ms), its pixels `shape` wide and high."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = Fraction(*shape)
        container.start_encoding()
        for stamp in stamps:
            frame = av.VideoFrame.from_ndarray(np.full((*size[::-1], 3), stamp % 256, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
