from __future__ import annotations

import struct

import av
import numpy as np
import pytest
import torch
from PIL import Image as pil

from commonspace.content import Video
from commonspace.errors import ContentError
from commonspace.processing import video
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.video import frame_indices, frame_seconds, read_frames, read_soundtrack, timestamp
from tests.media import numbered_frames, picture_bytes, sound_only_mp4, tone, video_bytes

P = Preprocessing(image_size=32, max_video_seconds=20)


def numbers(data, cut: bool = False, **options) -> list[int]:
    """Which frames of `numbered_frames` were taken, read off their brightness."""
    frames, _ = read_frames(Video(data, name="clip.mp4", **options), P, cut=cut)
    return [round(frame[0, 16, 16].item() / 4) for frame in frames]


@pytest.mark.parametrize(
    ("count", "seconds", "expected"),
    [
        (1, 0.1, [0]),
        (8, 0.3, list(range(8))),  # few frames of its own: all of them, however fast
        (8, 60, list(range(8))),
        (20, 2, [2, 7, 12, 17]),  # one a second would be two: at least four
        (60, 6, [5, 15, 25, 35, 45, 55]),  # one a second
        (1000, 100, [62, 187, 312, 437, 562, 687, 812, 937]),  # at most eight, evenly
    ],
)
def test_which_frames_are_taken(count: int, seconds: float, expected: list[int]):
    assert frame_indices(count, seconds, P) == expected


@pytest.mark.parametrize(
    ("format", "codec", "pixels"),
    [
        ("mp4", "libx264", "yuv420p"),  # with frames stored out of order
        ("webm", "libvpx-vp9", "yuv420p"),
        ("webm", "libvpx", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("h264", "libx264", "yuv420p"),  # without time stamps
        ("matroska", "ffv1", "bgra"),
    ],
)
def test_frames_of_containers(format: str, codec: str, pixels: str):
    assert numbers(video_bytes(numbered_frames(8), 10, format, codec, pixels)) == list(range(8))
    fps = 25 if format == "h264" else 10  # a bare stream counts as 25
    expected = [5, 15, 25, 35, 45, 55] if fps == 10 else [7, 22, 37, 52]
    assert numbers(video_bytes(numbered_frames(60), 10, format, codec, pixels)) == expected


def test_arrays_and_files_take_the_same_frames():
    assert numbers(numbered_frames(60), fps=10) == [5, 15, 25, 35, 45, 55]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_of_frames(channels: int):
    frames = numbered_frames(3)[..., :1].repeat(channels, 3)
    frames[..., 3:] = 255
    assert numbers(frames, fps=2.5) == [0, 1, 2]


@pytest.mark.parametrize(
    ("format", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("h264", "libx264"), ("", "")]
)
def test_when_frames_are_shown(format: str, codec: str):
    """Counted from the first frame: a frame of `fps` a second is shown at its number over `fps`."""
    fps = 25 if format == "h264" else 10  # a bare stream counts as 25
    if format:
        part = Video(video_bytes(numbered_frames(60), fps, format, codec))
    else:
        part = Video(numbered_frames(60), fps=10)
    frames, _ = read_frames(part, P, cut=False)
    shown = [round(frame[0, 16, 16].item() / 4) for frame in frames]
    assert frame_seconds(part, P, cut=False) == pytest.approx([number / fps for number in shown], abs=1e-3)


def test_when_frames_of_an_animation_are_shown():
    frames = [pil.fromarray(frame) for frame in numbered_frames(12)]
    data = picture_bytes(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=500, lossless=True)
    assert frame_seconds(Video(data), P, cut=False) == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]


def test_times_of_a_clip_that_is_cut():
    data = video_bytes(numbered_frames(60), fps=2)
    with pytest.raises(ContentError, match="is 30.0 s long"):
        frame_seconds(Video(data), P, cut=False)
    assert frame_seconds(Video(data), P, cut=True) == pytest.approx([1, 3.5, 6, 8.5, 11, 13.5, 16, 18.5])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00"), (3.9, "00:03"), (2.9999999, "00:03"), (61, "01:01"), (3599, "59:59"), (3600, "1:00:00")],
)
def test_timestamps(seconds: float, text: str):
    assert timestamp(seconds) == text


def test_gif_transparency_lies_on_white():
    frames = [pil.new("RGBA", (16, 16), (0, 0, 0, 0)) for _ in range(2)]
    frames[1].putpixel((8, 8), (255, 0, 0, 255))
    data = picture_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    taken, _ = read_frames(Video(data), P, cut=False)
    assert len(taken) == 2 and (taken[:, :, 0, 0] == 255).all()


def test_animated_webp():
    frames = [pil.fromarray(frame) for frame in numbered_frames(12)]
    data = picture_bytes(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=500, lossless=True)
    assert numbers(data) == [1, 3, 5, 7, 9, 11]


def test_alpha_of_a_video_lies_on_white():
    frames = np.zeros((3, 32, 32, 4), np.uint8)
    taken, _ = read_frames(Video(video_bytes(frames, 10, "matroska", "ffv1", "bgra")), P, cut=False)
    assert (taken == 255).all()


def test_a_turned_phone_clip_is_upright():
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[:, :16] = 255  # white above
    data = bytearray(video_bytes(frames))
    matrix = data.find(b"tkhd") + 4 + 4 + 20 + 8 + 8
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)  # a quarter clockwise
    taken, _ = read_frames(Video(bytes(data)), P, cut=False)
    assert taken[0, 0, 16, 30] > 200 and taken[0, 0, 16, 2] < 50


@pytest.mark.parametrize(
    ("fps", "message"),
    [(-1.0, "needs its fps"), (float("nan"), "needs its fps"), (float("inf"), "has inf frames a second")],
)
def test_an_array_has_a_rate_that_a_clip_can_have(fps: float, message: str):
    with pytest.raises(ContentError, match=f"clip.mp4: .*{message}"):
        numbers(numbered_frames(5), fps=fps)


def test_a_frame_larger_than_the_limit_is_not_decoded_whatever_its_header_says():
    data = video_bytes(numbered_frames(3))
    assert len(list(video._decode(data, "clip.mp4", 64 * 48, counted=False))) == 3
    with pytest.raises(av.error.FFmpegError):  # and not the ContentError that comes after decoding
        next(video._decode(data, "clip.mp4", 64 * 48 - 1, counted=False))


def test_only_the_frames_taken_are_turned_into_pictures(monkeypatch: pytest.MonkeyPatch):
    made = []
    picture = video._picture
    monkeypatch.setattr(video, "_picture", lambda frame, width: made.append(1) or picture(frame, width))
    assert len(numbers(video_bytes(numbered_frames(60)))) == len(made) == 6


def test_soundtrack():
    data = video_bytes(numbered_frames(20), sound=tone(1.5, 48_000))
    mel = read_soundtrack(Video(data), P)
    assert mel.shape == (80, 200)
    assert read_soundtrack(Video(video_bytes(numbered_frames(5))), P) is None
    assert read_soundtrack(Video(numbered_frames(5), fps=5), P) is None


def test_too_long_is_refused_or_cut_and_said():
    data = video_bytes(numbered_frames(60), fps=2)
    with pytest.raises(ContentError, match="clip.mp4: is 30.0 s long, at most 20 s"):
        numbers(data)
    frames, note = read_frames(Video(data, name="clip.mp4"), P, cut=True)
    assert note == "clip.mp4: cut from 30.0 to 20 s"
    assert [round(frame[0, 16, 16].item() / 4) for frame in frames] == [2, 7, 12, 17, 22, 27, 32, 37]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "without frames"),
        (sound_only_mp4(), "holds only sound, so it is no video"),
        (video_bytes(numbered_frames(20))[:900], "cannot be read as a video"),
        (b"not a video at all", "cannot be read as a video"),
        (np.zeros((0, 4, 4, 3), np.uint8), "without frames"),
        (np.zeros((4, 4, 3), np.uint8), r"\[frames, height, width, channels\]"),
    ],
)
def test_bad_input_is_named(data, message: str):
    options = {"fps": 10} if isinstance(data, np.ndarray) else {}
    with pytest.raises(ContentError, match=rf"^shard.tar:key.0.mp4: .*{message}"):
        read_frames(Video(data, name="shard.tar:key.0.mp4", **options), P, cut=False)


def test_a_video_whose_frames_are_all_broken_is_named():
    data = bytearray(video_bytes(numbered_frames(5), format="avi", codec="mpeg4"))
    start = data.find(b"movi")
    for place in range(start + 12, len(data) - 200):
        data[place] = 0
    with pytest.raises(ContentError, match="clip.avi"):
        read_frames(Video(bytes(data), name="clip.avi"), P, cut=False)


def test_frames_are_pixels():
    frames, note = read_frames(Video(video_bytes(numbered_frames(4))), P, cut=False)
    assert frames.shape == (4, 3, 32, 32) and frames.dtype == torch.uint8 and note == ""
