"""Videos to a few upright frames, and to the log-mel of their soundtrack.

Two passes over the file, so that memory holds only the frames that are kept: the first reads time stamps without
decoding, the second decodes up to the last frame wanted.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import av
import numpy as np
import torch
from PIL import Image as pil

from commonspace.content import Video
from commonspace.errors import ContentError
from commonspace.processing.audio import Measure, decode_track, finish
from commonspace.processing.decoding import container_options, decoding
from commonspace.processing.image import Fit, check_pixels, fit_patches, fit_square, from_array, upright_rgb
from commonspace.processing.preprocessing import Preprocessing

Pictures = Iterator[tuple[int, Callable[[], pil.Image]]]  # stamps in order, each with what makes its picture
Choose = Callable[[int, float, Preprocessing], list[int]]  # of so many frames of so many seconds, which are taken


class Timeline(NamedTuple):
    """When a clip's frames are shown: `stamps` in order, in units of `unit` seconds; `seconds` from first to end."""

    stamps: Sequence[int]
    unit: float
    seconds: float


def read_frames(
    part: Video, preprocessing: Preprocessing, *, cut: bool, fit: Fit | None = None, choose: Choose | None = None
) -> tuple[torch.Tensor, str]:
    """Frames uint8 [F, 3, S, S] in order, [F, 3, H, W] where `image_patch` asks for native aspects (that of the first
    frame), or as `fit` makes them; and what was cut off the clip ("" for nothing). None chooses by `frame_indices`.

    Raises ContentError that names the video where it cannot be read, has no frames or, unless it may be `cut`, is
    longer than `max_video_seconds`.
    """
    timeline, pictures = _frames_of(part, preprocessing)
    wanted, over = _wanted(timeline, part.label, preprocessing, cut=cut, choose=choose)
    with decoding(part.label, "is damaged or cut off"):
        frames = list(_fitted(_pick(pictures, wanted), preprocessing, fit))
    if not frames:
        raise ContentError(f"{part.label}: is a video without frames; replace the file")
    return torch.stack(frames), over


def frame_seconds(part: Video, preprocessing: Preprocessing, *, cut: bool, choose: Choose | None = None) -> list[float]:
    """When each frame that `read_frames` gives is shown, in seconds after the clip's first; raises as that does."""
    timeline, _ = _frames_of(part, preprocessing)
    wanted, _ = _wanted(timeline, part.label, preprocessing, cut=cut, choose=choose)
    return [(stamp - timeline.stamps[0]) * timeline.unit for stamp in wanted]


def clip_seconds(part: Video, preprocessing: Preprocessing) -> float:
    """How long the frames of a clip are shown, up to `max_video_seconds`; raises as `read_frames` does."""
    timeline, _ = _frames_of(part, preprocessing)
    return min(timeline.seconds, preprocessing.max_video_seconds)


def timestamp(seconds: float) -> str:
    """Minutes and seconds, as in 00:03; with hours from the first one on, as in 1:00:03."""
    minutes, rest = divmod(int(seconds + 1e-6), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def read_soundtrack(part: Video, preprocessing: Preprocessing, measure: Measure | None = None) -> torch.Tensor | None:
    """Log-mel frames [M, T] of the clip's sound up to `max_video_seconds`; None where it has no sound."""
    if isinstance(part.source, np.ndarray):
        return None
    data, limit = part.read_bytes(), preprocessing.max_video_seconds
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return None
    options = container_options(preprocessing.image_max_pixels)
    with decoding(part.label, "its sound is damaged"), av.open(io.BytesIO(data), **options) as container:
        if not container.streams.audio:
            return None
        taken, seconds = decode_track(container, part.label, limit, preprocessing.audio_rate)
    if not taken.count:
        return None
    return finish(taken, seconds, limit, preprocessing, cut=True, measure=measure)[0]


def frame_indices(count: int, seconds: float, preprocessing: Preprocessing) -> list[int]:
    """Which of `count` frames of a clip of `seconds` are taken.

    All of a clip that has few; else `video_fps` a second within its bounds, each from the middle of its share.
    """
    if count <= preprocessing.video_max_frames:
        return list(range(count))
    wanted = math.ceil(seconds * preprocessing.video_fps - 1e-6)
    wanted = min(max(wanted, preprocessing.video_min_frames), preprocessing.video_max_frames)
    return [int((2 * index + 1) * count / (2 * wanted)) for index in range(wanted)]


def _frames_of(part: Video, preprocessing: Preprocessing) -> tuple[Timeline, Pictures]:
    if isinstance(part.source, np.ndarray):
        return _array_frames(part, preprocessing)
    data = part.read_bytes()
    if not data:
        raise ContentError(f"{part.label}: is empty, a video without frames; replace the file")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":  # FFmpeg does not decode animated WebP
        return _animation_frames(data, part.label, preprocessing)
    return _container_frames(data, part.label, preprocessing)


def _fitted(pictures: Iterable[pil.Image], preprocessing: Preprocessing, fit: Fit | None) -> Iterator[torch.Tensor]:
    """Pixels of each picture, all of one size."""
    size, patch, grid = preprocessing.image_size, preprocessing.image_patch, None
    for picture in pictures:
        if fit or patch is None:
            yield fit(picture) if fit else fit_square(picture, size)
        else:
            pixels = fit_patches(picture, size, patch, grid)
            grid = pixels.shape[1] // patch, pixels.shape[2] // patch
            yield pixels


def _wanted(
    timeline: Timeline, label: str, preprocessing: Preprocessing, *, cut: bool, choose: Choose | None = None
) -> tuple[list[int], str]:
    """Stamps of the frames that are taken, and what was cut off the clip."""
    stamps, over = _within_limit(timeline, label, preprocessing.max_video_seconds, cut=cut)
    seconds = min(timeline.seconds, preprocessing.max_video_seconds)
    return [stamps[index] for index in (choose or frame_indices)(len(stamps), seconds, preprocessing)], over


def _within_limit(timeline: Timeline, label: str, limit: float, *, cut: bool) -> tuple[Sequence[int], str]:
    """The stamps of the first `limit` seconds, and what was cut off."""
    if timeline.seconds <= limit:
        return timeline.stamps, ""
    if not cut:
        raise ContentError(
            f"{label}: is {timeline.seconds:.1f} s long, at most {limit:g} s are taken; cut it or use on_limit=truncate"
        )
    kept = max(1, int(len(timeline.stamps) * limit / timeline.seconds))
    return timeline.stamps[:kept], f"{label}: cut from {timeline.seconds:.1f} to {limit:g} s"


def _pick(pictures: Pictures, wanted: Sequence[int]) -> Iterator[pil.Image]:
    """For each wanted stamp the picture shown then: the last one whose own stamp is not later."""
    position, shown = 0, None
    for stamp, make in pictures:
        while shown is not None and position < len(wanted) and wanted[position] < stamp:
            yield upright_rgb(shown())
            position += 1
        if position == len(wanted):
            return
        shown = make
    if shown is not None:
        for _ in wanted[position:]:
            yield upright_rgb(shown())


def _container_frames(data: bytes, label: str, preprocessing: Preprocessing) -> tuple[Timeline, Pictures]:
    limit = preprocessing.image_max_pixels
    with (
        decoding(label, "cannot be read as a video", "use mp4, mov, webm, mkv, avi or gif"),
        av.open(io.BytesIO(data), **container_options(limit)) as container,
    ):
        if not container.streams.video:
            kind = "only sound" if container.streams.audio else "no pictures"
            raise ContentError(f"{label}: holds {kind}, so it is no video; pass it as audio or replace the file")
        stream = container.streams.video[0]
        if not stream.width:  # FFmpeg forgets a size that it refuses
            raise ContentError(
                f"{label}: tells no size of its pictures, or one of more than {limit} pixels (image_max_pixels); "
                "scale it down or replace the file"
            )
        check_pixels(label, stream.width, stream.height, limit)
        stamps = [packet.pts for packet in container.demux(stream) if packet.size]
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        unit = float(stream.time_base or 0)
    counted = not stamps or None in stamps  # a bare stream without time stamps: count frames instead
    if counted:
        timeline = Timeline(range(len(stamps)), 1 / rate, len(stamps) / rate)
    else:
        ordered = sorted(stamps)
        timeline = Timeline(ordered, unit, (ordered[-1] - ordered[0]) * unit + 1 / rate)
    return timeline, _decode(data, label, limit, counted=counted)


def _decode(data: bytes, label: str, max_pixels: int, *, counted: bool) -> Pictures:
    with av.open(io.BytesIO(data), **container_options(max_pixels)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"max_pixels": str(max_pixels)}  # a stream may be larger than its header says
        shape = float(stream.sample_aspect_ratio or 1)
        for index, frame in enumerate(container.decode(stream)):
            width = max(1, round(frame.width * shape))
            check_pixels(label, width, frame.height, max_pixels)
            yield (index if counted or frame.pts is None else frame.pts), partial(_picture, frame, width)


def _picture(frame: av.VideoFrame, width: int) -> pil.Image:
    """A decoded frame as its viewers see it: `width` of square pixels, upright, with its transparency where it has any.

    Only quarter turns are undone: a turn by anything else is no camera's, and would grow the picture.
    """
    mode = "rgba" if any(component.is_alpha for component in frame.format.components) else "rgb24"
    picture = pil.fromarray(frame.to_ndarray(format=mode))
    if width != picture.width:
        picture = picture.resize((width, picture.height))
    turn = round(frame.rotation / 90) % 4 * 90
    return picture.rotate(turn, expand=True) if turn else picture


def _animation_frames(data: bytes, label: str, preprocessing: Preprocessing) -> tuple[Timeline, Pictures]:
    with decoding(label, "cannot be read as a video"):
        animation = pil.open(io.BytesIO(data), formats=["WEBP"])
        check_pixels(label, animation.width, animation.height, preprocessing.image_max_pixels)
        count = animation.n_frames
        animation.load()
        unit = animation.info.get("duration", 100) / 1000

    def picture(index: int) -> pil.Image:
        animation.seek(index)
        return animation.copy()

    return Timeline(range(count), unit, count * unit), ((index, partial(picture, index)) for index in range(count))


def _array_frames(part: Video, preprocessing: Preprocessing) -> tuple[Timeline, Pictures]:
    frames = part.source
    if frames.ndim != 4:
        raise ContentError(
            f"{part.label}: a video array is [frames, height, width, channels], this one is {list(frames.shape)}"
        )
    if not part.fps < math.inf:
        raise ContentError(f"{part.label}: has {part.fps} frames a second; give the clip's own fps")
    limit = preprocessing.image_max_pixels
    pictures = ((index, partial(from_array, frame, part.label, limit)) for index, frame in enumerate(frames))
    return Timeline(range(len(frames)), 1 / part.fps, len(frames) / part.fps), pictures
