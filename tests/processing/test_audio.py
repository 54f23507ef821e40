from __future__ import annotations

import numpy as np
import pytest
import soxr
import torch
from transformers import WhisperFeatureExtractor

from commonspace.content import Audio
from commonspace.errors import ContentError
from commonspace.processing.audio import log_mel, mel_filters, read_audio
from commonspace.processing.preprocessing import Preprocessing
from tests.media import noise, sound_bytes, sound_only_mp4, tone

P = Preprocessing(max_audio_seconds=5)


def read(source, name: str = "some.wav", cut: bool = False, **options) -> torch.Tensor:
    return read_audio(Audio(source, name=name, **options), P, cut=cut)[0]


def whispers(samples: np.ndarray) -> torch.Tensor:
    """What the reference makes of samples at 16 kHz, padded with silence to whole seconds."""
    extractor = WhisperFeatureExtractor(feature_size=80, chunk_length=max(1, -(-len(samples) // 16_000)))
    return extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features[0]


@pytest.mark.parametrize("count", [1, 2, 159, 161, 399, 7_777, 16_000, 16_001, 33_333, 48_000, 79_999, 480_000])
def test_log_mel_is_whispers(count: int):
    samples = (noise(30) + tone(30))[:count]
    mel = log_mel(torch.from_numpy(samples), P)
    assert mel.shape == (80, 100 * max(1, -(-count // 16_000))) and mel.dtype == torch.float32
    torch.testing.assert_close(mel, whispers(samples), atol=1e-5, rtol=0)


@pytest.mark.parametrize("loudness", [1e-6, 1e3, 1e6])
def test_log_mel_is_whispers_however_loud(loudness: float):
    samples = np.float32(loudness) * (noise(1) + tone(1))
    torch.testing.assert_close(log_mel(torch.from_numpy(samples), P), whispers(samples), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("rate", "channels", "seconds"), [(8_000, 1, 1.3), (48_000, 6, 4.1), (96_000, 3, 4.7)])
def test_a_file_of_another_rate_is_what_whisper_hears_of_it_resampled_whole(rate: int, channels: int, seconds: float):
    samples = np.stack([noise(seconds, rate, seed) for seed in range(channels)], 1)
    expected = whispers(soxr.resample(samples.mean(1), rate, 16_000))
    mel = read(sound_bytes(samples, rate, subtype="FLOAT"))  # of several channels: read in more than one block
    torch.testing.assert_close(mel, expected, atol=1e-5, rtol=0)


def test_filters_are_whispers():
    expected = torch.from_numpy(WhisperFeatureExtractor(feature_size=80).mel_filters.T).float()
    torch.testing.assert_close(mel_filters(16_000, 400, 80), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize(("seconds", "frames"), [(0.001, 100), (0.7, 100), (1.0, 100), (1.01, 200)])
def test_sounds_are_padded_to_whole_seconds(seconds: float, frames: int):
    mel = read(tone(seconds), rate=16_000)
    padded = np.pad(tone(seconds), (0, frames * 160 - round(seconds * 16_000)))
    assert mel.shape == (80, frames)
    assert torch.equal(mel, read(padded, rate=16_000))


@pytest.mark.parametrize(
    ("name", "format", "subtype"),
    [
        ("a.wav", "WAV", "PCM_16"),
        ("a.flac", "FLAC", None),
        ("a.ogg", "OGG", "VORBIS"),
        ("a.opus", "OGG", "OPUS"),
        ("a.mp3", "MP3", None),
    ],
)
def test_formats(name: str, format: str, subtype: str | None):
    expected = read(tone(1), rate=16_000)
    mel = read(sound_bytes(tone(1), format=format, subtype=subtype), name)[:, :100]
    loudest = expected.mean(1).argmax()
    assert mel.mean(1).argmax() == loudest
    torch.testing.assert_close(mel[loudest, 20:80].mean(), expected[loudest, 20:80].mean(), atol=0.05, rtol=0)


def test_stereo_other_rates_and_integers_become_mono_16_khz():
    expected = read(tone(1), rate=16_000)
    loudest = expected.mean(1).argmax()
    stereo = np.stack([tone(1, 44_100), tone(1, 44_100)], axis=1)
    integers = (tone(1) * 32767).astype(np.int16)
    for mel in (
        read(sound_bytes(stereo, 44_100)),
        read(stereo.T, rate=44_100),
        read(integers, rate=16_000),
        read(tone(1, 8000), rate=8000),
    ):
        assert mel.shape == (80, 100)
        torch.testing.assert_close(mel[loudest, 10:90], expected[loudest, 10:90], atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float16, np.float32, np.float64])
def test_arrays_of_every_kind_hold_the_same_sound(kind: type):
    """Integers fill their range; unsigned ones lie around its half, as 8 bits do in WAV files."""
    expected = read(tone(1), rate=16_000)
    samples = tone(1).astype(np.float64)
    if np.issubdtype(kind, np.integer):
        half = 2.0 ** (8 * kind().itemsize - 1)
        samples = np.clip(samples * half + half * (kind().dtype.kind == "u"), None, np.iinfo(kind).max).round()
    mel = read(samples.astype(kind), rate=16_000)
    loudest = expected.mean(1).argmax()
    torch.testing.assert_close(mel[loudest], expected[loudest], atol=0.01, rtol=0)


def test_channels_are_averaged():
    both = np.stack([tone(1), noise(1)])
    assert torch.equal(read(both, rate=16_000), read(both.mean(0, dtype=np.float64), rate=16_000))
    assert torch.equal(read(tone(1)[None], rate=16_000), read(tone(1), rate=16_000))


def test_an_array_is_cut_to_the_limit():
    mel, note = read_audio(Audio(noise(6.5), rate=16_000, name="x"), P, cut=True)
    assert torch.equal(mel, read(noise(6.5)[: 5 * 16_000], rate=16_000)) and note == "x: cut from 6.5 to 5 s"


def test_what_soundfile_cannot_read_falls_to_pyav():
    mel = read(sound_only_mp4(), "a.m4a")
    assert mel.mean(1).argmax() == read(tone(1), rate=16_000).mean(1).argmax()


def test_gsm_has_no_header_and_goes_by_its_name():
    data = sound_bytes(tone(1, 8000), 8000, "RAW", "GSM610")
    mel = read(data, "shard.tar:key.0.gsm")
    assert mel.mean(1).argmax() == read(tone(1, 8000), rate=8000).mean(1).argmax()
    with pytest.raises(ContentError, match="a.gsm: is no sequence of GSM"):
        read(b"\x00" * 66, "a.gsm")


def test_silence_is_a_sound():
    assert torch.isfinite(read(np.zeros(100, np.float32), rate=16_000)).all()


def test_too_long_is_refused_or_cut_and_said():
    data = sound_bytes(noise(6.5))
    with pytest.raises(ContentError, match="some.wav: is 6.5 s long, at most 5 s"):
        read(data)
    mel, note = read_audio(Audio(data, name="some.wav"), P, cut=True)
    assert note == "some.wav: cut from 6.5 to 5 s"
    assert torch.equal(mel, read(sound_bytes(noise(6.5)[: 5 * 16_000])))
    mel, note = read_audio(Audio(sound_only_mp4(8), name="a.m4a"), P, cut=True)
    assert mel.shape == (80, 500) and note == "a.m4a: cut from 8.0 to 5 s"


def _with(value: float) -> np.ndarray:
    samples = tone(1)
    samples[100] = value
    return samples


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "zero length"),
        (sound_bytes(np.zeros(0, np.float32)), "zero length"),
        (sound_bytes(_with(np.nan), subtype="FLOAT"), "NaN or infinite"),
        (sound_bytes(_with(np.inf), subtype="FLOAT"), "NaN or infinite"),
        (b"RIFF....", "cannot be read as a sound"),
        (b"some text", "cannot be read as a sound"),
        (sound_bytes(tone(1), format="FLAC")[:30], "cannot be read as a sound"),
    ],
    ids=["nothing", "no samples", "not a number", "infinite", "a bare header", "text", "cut off"],
)
def test_bad_input_is_named(data: bytes, message: str):
    with pytest.raises(ContentError, match=rf"^clip.ogg: .*{message}"):
        read(data, "clip.ogg")


@pytest.mark.parametrize(
    ("values", "rate", "message"),
    [
        (np.zeros((2, 2, 2), np.float32), 16_000, r"\[channels, samples\]"),
        (np.zeros(8, np.int64), 16_000, "integers of 8 to 32 bits, this one is int64"),
        (np.zeros(8, np.complex64), 16_000, "this one is complex64"),
        (np.zeros((800, 2), np.float32), 16_000, "has 800 channels, at most 64 .* transpose it"),
        (np.zeros((2, 0), np.float32), 16_000, "zero length"),
        (tone(1), -16_000, "needs its rate in Hz"),
        (tone(1), float("nan"), "needs its rate in Hz"),
        (tone(1), "16000", "needs its rate in Hz"),
        (tone(1), 5.0, "has 5.0 samples a second, 1000 to 768000"),
        (tone(1).astype(np.float64) * 1e300, 16_000, "NaN or infinite"),
        (tone(1) * np.float32(1e30), 16_000, "too large to measure"),
    ],
)
def test_a_bad_array_is_named(values: np.ndarray, rate: float, message: str):
    with pytest.raises(ContentError, match=f"^some.wav: .*{message}"):
        read(values, rate=rate)


def test_a_header_that_lies_about_its_length_does_not_make_a_sound_too_long():
    data = bytearray(sound_bytes(noise(1), format="FLAC"))
    data[21] |= 0x0F  # the high bits of how many samples follow
    assert torch.equal(read(bytes(data)), read(sound_bytes(noise(1), format="FLAC")))
