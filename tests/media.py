"""Small generated media for tests: every file a test reads is made here, in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence

import av
import numpy as np
import soundfile
from PIL import Image

RATE = 16_000


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    """A sine of half amplitude, float32 [samples]."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """White noise, float32 [samples]."""
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


def sound_bytes(samples: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    """`samples` ([n] or [n, channels]) as a sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def picture_bytes(picture: Image.Image | np.ndarray, format: str = "PNG", **options: object) -> bytes:
    """A picture as an image file."""
    buffer = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(buffer, format=format, **options)
    return buffer.getvalue()


def numbered_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey frames uint8 [count, height, width, 3] whose brightness tells their number: 4 x index."""
    return np.broadcast_to(4 * np.arange(count, dtype=np.uint8)[:, None, None, None], (count, height, width, 3)).copy()


def video_bytes(
    frames: np.ndarray,
    fps: int = 10,
    format: str = "mp4",
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound: np.ndarray | None = None,
) -> bytes:
    """Frames [F, H, W, 3 or 4] as a video file, with `sound` (mono at 48 kHz) as its soundtrack."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = pixels, 4_000_000
        track = (
            container.add_stream("libopus" if format == "webm" else "aac", rate=48_000) if sound is not None else None
        )
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgba" if frame.shape[-1] == 4 else "rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
        if track is not None:
            block = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            block.sample_rate, block.pts = 48_000, 0
            container.mux(track.encode(block))
            container.mux(track.encode(None))
    return buffer.getvalue()


def sound_only_mp4(seconds: float = 1.0) -> bytes:
    """An MP4 with a soundtrack and no pictures."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        track = container.add_stream("aac", rate=48_000)
        block = av.AudioFrame.from_ndarray(tone(seconds, 48_000)[None], format="fltp", layout="mono")
        block.sample_rate, block.pts = 48_000, 0
        container.mux(track.encode(block))
        container.mux(track.encode(None))
    return buffer.getvalue()


def pdf_bytes(contents: Sequence[bytes], width: float = 200, height: float = 100, image: str = "") -> bytes:
    """A PDF whose pages draw `contents` (page description operators; font /F1), sides in points.

    image  "WIDTHxHEIGHT" of a grey picture /Im that a page may draw, all black
    """
    fonts = "/Font<</F1 3 0 R>>" + f"/XObject<</Im {4 + 2 * len(contents)} 0 R>>" * bool(image)
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(contents)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(contents)}>>".encode(),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for index, content in enumerate(contents):
        page = f"/Parent 2 0 R/MediaBox[0 0 {width} {height}]/Contents {5 + 2 * index} 0 R/Resources<<{fonts}>>"
        objects += [f"<</Type/Page{page}>>".encode(), _stream("", content)]
    if image:
        wide, high = (int(side) for side in image.split("x"))
        numbers = f"/Type/XObject/Subtype/Image/Width {wide}/Height {high}/ColorSpace/DeviceGray/BitsPerComponent 8"
        objects.append(_stream(numbers, bytes(8)))
    out, places = b"%PDF-1.4\n", []
    for number, value in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, value)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    end = b"xref\n0 %d\n%strailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (size, table, size, len(out))
    return out + end


def pdf_page(words: str = "", grey: float | None = None) -> bytes:
    """What a page draws: a line of words, over a whole page of one grey."""
    fill = b"%g g 0 0 200 100 re f 0 g " % grey if grey is not None else b""
    return fill + (f"BT /F1 12 Tf 10 50 Td ({words}) Tj ET".encode() if words else b"")


def _stream(entries: str, data: bytes) -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries.encode(), len(data), data)
