from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image as PILImage

from commonspace.errors import DataError
from data_prep.clips import MAX_SOUND_SECONDS, SOUND_RATE, encode_clip, encode_sound

_GREYS = (20, 90, 160, 230)


def _frames() -> list[PILImage.Image]:
    return [PILImage.new("RGB", (64, 64), (grey, grey, grey)) for grey in _GREYS]


def _tone(path: Path, seconds: float) -> Path:
    wave = 0.5 * np.sin(np.arange(int(seconds * 22050)) * 2 * np.pi * 440 / 22050)
    soundfile.write(path, wave, 22050, format="OGG", subtype="VORBIS")
    return path


def test_a_clip_holds_exactly_its_frames_in_order_at_its_rate() -> None:
    data = encode_clip(_frames(), rate=7.5)
    with av.open(io.BytesIO(data)) as clip:
        assert not clip.streams.audio
        assert float(clip.streams.video[0].average_rate) == pytest.approx(7.5, rel=1e-3)
        decoded = [frame.to_image().getpixel((32, 32))[0] for frame in clip.decode(video=0)]
    assert decoded == pytest.approx(_GREYS, abs=4)
    assert encode_clip(_frames(), rate=7.5) == data


def test_the_sound_is_copied_in_and_cut_to_its_limit(tmp_path: Path) -> None:
    sound = encode_sound(_tone(tmp_path / "a.ogg", 0.5))
    with av.open(io.BytesIO(encode_clip(_frames(), 10.0, sound))) as clip:
        assert clip.streams.audio[0].codec_context.sample_rate == SOUND_RATE
        samples = np.concatenate([frame.to_ndarray()[0] for frame in clip.decode(audio=0)])
    assert len(samples) / SOUND_RATE == pytest.approx(0.5, abs=0.08)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * SOUND_RATE / len(samples) == pytest.approx(440, abs=10)
    with av.open(io.BytesIO(encode_sound(_tone(tmp_path / "b.ogg", 5.0)))) as file:
        assert float(file.streams.audio[0].duration * file.streams.audio[0].time_base) < MAX_SOUND_SECONDS + 0.2


def test_files_without_sound_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.ogg").write_text("not a sound")
    PILImage.new("RGB", (9, 9)).save(tmp_path / "picture.png")
    for name in ("text.ogg", "none.ogg", "picture.png"):
        with pytest.raises(DataError, match=name):
            encode_sound(tmp_path / name)
