"""Pictures and a sound -> the bytes of a small mp4 file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.error
from PIL import Image as PILImage

from commonspace.errors import DataError

SOUND_RATE = 32_000
MAX_SOUND_SECONDS = 3.0


def encode_sound(path: Path) -> bytes:
    """The sound as AAC in an mp4 file, mono, 32 kHz, at most 3 s: coded once, then copied into every clip that has it.

    Raises:
        DataError: no sound, or one that cannot be decoded.
    """
    buffer = io.BytesIO()
    limit = int(SOUND_RATE * MAX_SOUND_SECONDS)
    try:
        with av.open(str(path)) as source, av.open(buffer, "w", format="mp4") as target:
            stream = target.add_stream("aac", rate=SOUND_RATE, layout="mono")
            stream.bit_rate = 64_000
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=SOUND_RATE)
            written = 0
            for frame in source.decode(audio=0):
                for piece in resampler.resample(frame):
                    if written < limit:
                        written += piece.samples
                        target.mux(stream.encode(piece))
            if not written:
                raise DataError(f"{path}: holds no sound; leave it out")
            target.mux(stream.encode(None))
    except (av.error.FFmpegError, IndexError) as error:
        raise DataError(f"{path}: cannot be decoded as sound ({error}); leave it out") from error
    return buffer.getvalue()


def encode_clip(frames: Sequence[PILImage.Image], rate: float, sound: bytes | None = None) -> bytes:
    """An H.264 mp4 with exactly these frames at `rate` per second, and a copy of `sound` (see `encode_sound`).

    Near lossless (CRF 10): the pictures are small, and blocking would be all a model sees of a sword.
    """
    buffer = io.BytesIO()
    fraction = Fraction(rate).limit_denominator(1000)
    with av.open(buffer, "w", format="mp4") as target:
        video = target.add_stream(
            "libx264", rate=fraction, options={"preset": "ultrafast", "crf": "10", "threads": "1"}
        )
        video.width, video.height = frames[0].size
        video.pix_fmt = "yuv420p"
        source = av.open(io.BytesIO(sound)) if sound else None
        audio = target.add_stream_from_template(source.streams.audio[0]) if source else None
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = index, 1 / fraction
            target.mux(video.encode(frame))
        target.mux(video.encode(None))
        if source and audio:
            for packet in source.demux(audio=0):
                if packet.dts is not None:
                    packet.stream = audio
                    target.mux(packet)
            source.close()
    return buffer.getvalue()
