"""A stretch of a long video as a small clip of its own, for sets that annotate stretches."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import av.error

from commonspace.errors import DataError

RATE = 4  # frames a second: models here look at one, at most 32 of a clip
SIDE = 256  # pixels of the shorter side, at most
_SOUND_RATE = 16_000


def cut_clip(path: Path, start: float, end: float) -> bytes:
    """An mp4 of seconds `start` to `end`: 4 frames a second, shorter side at most 256 px, sound at 16 kHz if any.

    Raises:
        DataError: it cannot be decoded, or has no frame in that stretch.
    """
    buffer = io.BytesIO()
    try:
        with av.open(str(path)) as source, av.open(buffer, "w", format="mp4") as target:
            frames = _video(source, target, start, end)
            if not frames:
                raise DataError(f"{path}: has no frame between {start} and {end} s")
    except (av.error.FFmpegError, OSError, IndexError, ValueError) as error:
        raise DataError(f"{path}: cannot be cut from {start} to {end} s ({error})") from error
    return buffer.getvalue()


def _video(source: av.container.InputContainer, target: av.container.OutputContainer, start: float, end: float) -> int:
    stream = source.streams.video[0]
    scale = min(1.0, SIDE / min(stream.width, stream.height))
    width, height = (max(2, round(side * scale / 2) * 2) for side in (stream.width, stream.height))
    video = target.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "26", "threads": "1"})
    video.width, video.height, video.pix_fmt = width, height, "yuv420p"
    audio = target.add_stream("aac", rate=_SOUND_RATE, layout="mono") if source.streams.audio else None
    count = 0
    for frame in _between(source, start, end, "video"):
        if frame.time - start + 1e-6 < count / RATE:
            continue
        picture = frame.reformat(width, height, "yuv420p")
        picture.pts, picture.time_base = count, Fraction(1, RATE)
        target.mux(video.encode(picture))
        count += 1
    target.mux(video.encode(None))
    if audio is not None and count:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=_SOUND_RATE)
        for frame in _between(source, start, end, "audio"):
            frame.pts = None
            for piece in resampler.resample(frame):
                target.mux(audio.encode(piece))
        target.mux(audio.encode(None))
    return count


def _between(source: av.container.InputContainer, start: float, end: float, kind: str):
    """Decoded frames of a stretch, from the key frame before it on."""
    source.seek(int(start * av.time_base))
    for frame in source.decode(**{kind: 0}):
        if frame.time is None or frame.time < start:
            continue
        if frame.time >= end:
            return
        yield frame
