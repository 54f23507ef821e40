"""Media that are cut short, or are no media: counted, never in the shards."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from commonspace.processing.decoding import CONTAINERS
from data_prep.pictures import header_fault, is_whole_picture
from data_prep.public.build import build_public
from data_prep.public.spec import set_of
from data_prep.public.wholeness import FORMATS, is_whole_clip, is_whole_sound
from tests.data_prep.public import published
from tests.media import noise, numbered_frames, picture_bytes, sound_bytes, sound_only_mp4, tone, video_bytes

PAGE = b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 20
PHOTO = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
PICTURES = {
    "JPEG": {},
    "JPEG progressive": {"progressive": True},
    "PNG": {},
    "WEBP": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
}
SOUNDS = [("WAV", None), ("FLAC", None), ("MP3", None), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("AIFF", None)]
CLIPS = {
    "mp4": {},
    "matroska": {},
    "webm": {"format": "webm", "codec": "libvpx-vp9"},
    "avi": {"format": "avi", "codec": "mpeg4"},
}


def part(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def fast_start(data: bytes, path: Path) -> bytes:
    """An mp4 with its index in front, as those of the web: half of one opens."""
    with av.open(io.BytesIO(data)) as source, av.open(path, "w", options={"movflags": "faststart"}) as target:
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize(
    "name, file, change",
    [
        ("coco", "train2014/COCO_train2014_000000000100.jpg", lambda data: part(data, 0.9)),
        ("coco", "train2014/COCO_train2014_000000000100.jpg", lambda data: data[:-2]),
        ("clotho", "development/Distorted AM Radio noise.wav", lambda data: data[:100]),
        ("clotho", "development/Distorted AM Radio noise.wav", lambda _: PAGE),
        ("vggsound", "video/--0PQM4-hqg_000030.mp4", lambda data: part(data, 0.5)),
        ("msr_vtt", "TrainValVideo/video0.mp4", lambda data: part(data, 0.5)),
        ("msr_vtt", "TrainValVideo/video0.mp4", lambda _: PAGE),
        ("msr_vtt", "TrainValVideo/video0.mp4", lambda _: sound_only_mp4()),
    ],
)
def test_broken_media_are_counted_and_not_written(tmp_path: Path, name: str, file: str, change) -> None:
    files, spec = tmp_path / "files", set_of(name)
    published.SETS[name](files)
    if name == "vggsound":  # one row of training is left
        published.put_csv(files / "vggsound.csv", [("---g-f_I2yQ", 1, "a", "train"), ("--0PQM4-hqg", 30, "b", "train")])
    (files / file).write_bytes(change((files / file).read_bytes()))
    manifest = build_public(replace(spec, bytes={}), files, tmp_path / "data", workers=1)
    assert manifest["sources"][name]["drops"] == {"broken media": 1}
    assert manifest["tasks"][spec.task]["train"] == 1


def test_no_stretch_is_cut_from_a_broken_video(tmp_path: Path) -> None:
    files = tmp_path / "files"
    published.youcook2(files)
    path = files / "raw_videos/training/113/vid0.mp4"
    path.write_bytes(part(fast_start(path.read_bytes(), tmp_path / "fast.mp4"), 0.9))
    manifest = build_public(set_of("youcook2"), files, tmp_path / "data", workers=1)
    assert manifest["sources"]["youcook2"]["drops"] == {"broken media": 2}


def test_broken_bytes_of_a_row_are_counted_too(tmp_path: Path) -> None:
    files = tmp_path / "files"
    published.cc12m(files)
    members = {"000000009.jpg": part(published.picture(9), 0.6), "000000009.txt": b"half", "000000009.json": b"{}"}
    published.put_tar(files / "cc12m-train-0001.tar", members)
    manifest = build_public(set_of("cc12m"), files, tmp_path / "data", workers=1)
    assert manifest["sources"]["cc12m"]["drops"] == {"broken media": 1}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_that_are_cut_are_not_whole(name: str, tmp_path: Path) -> None:
    data = picture_bytes(PHOTO, name.split()[0], **PICTURES[name])
    assert is_whole_picture(data)
    assert is_whole_picture(data + b"\0" * 7) and is_whole_picture(data + b"more behind the end")
    assert not any(is_whole_picture(part(data, share)) for share in (0.2, 0.5, 0.9))
    (tmp_path / "picture").write_bytes(part(data, 0.5))
    assert not is_whole_picture(tmp_path / "picture")


def test_no_program_of_the_system_is_run_to_judge_a_picture() -> None:
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n(x) print\n"
    assert header_fault(data) is None and not is_whole_picture(data)


@pytest.mark.parametrize("format, subtype", SOUNDS)
def test_sounds_that_are_cut_are_not_whole(format: str, subtype: str | None, tmp_path: Path) -> None:
    data = sound_bytes(noise(3, 48_000), 48_000, format, subtype)
    assert is_whole_sound(data)
    assert not any(is_whole_sound(part(data, share)) for share in (0.01, 0.2, 0.5, 0.9))
    (tmp_path / "sound").write_bytes(data)
    assert is_whole_sound(tmp_path / "sound")


def test_a_sound_that_was_written_to_a_pipe_states_no_length() -> None:
    data = bytearray(sound_bytes(tone(0.5)))
    data[4:8] = data[40:44] = b"\xff" * 4
    assert is_whole_sound(bytes(data))
    flac = bytearray(sound_bytes(tone(0.5), format="FLAC"))
    flac[21] &= 0xF0  # the number of samples, in the last 36 bits of the length
    flac[22:26] = bytes(4)
    assert is_whole_sound(bytes(flac))


@pytest.mark.parametrize("name", CLIPS)
def test_clips_that_are_cut_are_not_whole(name: str, tmp_path: Path) -> None:
    options = CLIPS[name] or {"format": name}
    frames = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8)
    data = video_bytes(frames, sound=None if name == "avi" else tone(4, 48_000), **options)
    datas = [data, fast_start(data, tmp_path / "fast.mp4")] if name == "mp4" else [data]
    for one in datas:
        assert is_whole_clip(one) and is_whole_sound(one) == (name != "avi")
        assert not any(is_whole_clip(part(one, share)) for share in (0.01, 0.2, 0.5, 0.7))
        assert not any(is_whole_sound(part(one, share)) for share in (0.01, 0.2, 0.5, 0.7))


def test_a_clip_of_one_frame_and_an_animation_are_whole() -> None:
    assert is_whole_clip(video_bytes(numbered_frames(1)))
    assert is_whole_clip(video_bytes(numbered_frames(5), format="gif", codec="gif", pixels="rgb8"))
    animation = picture_bytes(PHOTO, "WEBP")
    assert is_whole_clip(animation) and not is_whole_clip(part(animation, 0.5))


@pytest.mark.parametrize("data", [b"", PAGE, b"#EXTM3U\n#EXTINF:1\n/etc/hostname\n", picture_bytes(PHOTO)])
def test_what_is_no_medium_is_not_whole(data: bytes) -> None:
    assert not is_whole_sound(data) and not is_whole_clip(data)


def test_the_containers_are_those_that_rows_are_read_with() -> None:
    assert FORMATS.split(",") == list(CONTAINERS)
