from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image as pil
from transformers import Gemma4AudioFeatureExtractor

from commonspace.content import Audio, Video
from commonspace.errors import ConfigError, ContentError
from commonspace.processing.gemma_layout import GemmaLayout
from commonspace.processing.gemma_media import GemmaReader, PooledFit, own_frames
from commonspace.processing.gemma_preprocessing import GemmaPreprocessing
from commonspace.processing.media import collected_notes
from tests.media import numbered_frames, tone, video_bytes

SOUND = {"feature_size": 32, "sampling_rate": 16_000, "frame_length_ms": 20.0, "hop_length_ms": 10.0}
LAYOUT = GemmaLayout("EmbeddingGemma2Processor", 48, {}, {}, frames_per_step=1, audio_tokens=25, sound=SOUND)
P = GemmaPreprocessing(image_max_tokens=70, frame_max_tokens=9, max_audio_seconds=2.0)


def reader(cut: bool = False, numbers: GemmaPreprocessing = P) -> GemmaReader:
    return GemmaReader(numbers, LAYOUT, cut=cut)


@pytest.mark.parametrize("size", [(56, 84), (100, 100), (300, 50), (1, 1), (2000, 1500), (3, 600), (5000, 1), (1, 900)])
def test_pictures_become_nearly_as_many_tokens_as_their_budget(size: tuple[int, int]):
    pixels_3HW = PooledFit(16, 3, 70)(pil.new("RGB", size, (90, 90, 90)))
    height, width = pixels_3HW.shape[1:]
    assert pixels_3HW.dtype == torch.uint8 and height % 48 == width % 48 == 0 and height * width <= 70 * 48**2
    if max(size) <= 20 * min(size):
        assert height * width > 0.7 * 70 * 48**2 and (height >= width) == (size[1] >= size[0])


def test_frames_take_the_size_of_the_first():
    fit = PooledFit(16, 3, 9)
    sizes = [fit(pil.new("RGB", size)).shape for size in ((56, 84), (300, 90))]
    assert sizes[0] == sizes[1] == (3, 144, 96)


@pytest.mark.parametrize(
    ("count", "seconds", "expected"),
    [
        (3, 0.75, [0]), (10, 2.5, [0, 4]), (30, 30 / 29.97, [0]), (60, 60 / 29.97, [0, 29]), (1, 1e-9, [0]),
        (100, 50.0, [int(step) * 2 for step in np.linspace(0, 49, 32)]),
    ],
)  # fmt: skip
def test_frames_are_one_a_second_from_the_first_on(count: int, seconds: float, expected: list[int]):
    assert own_frames(count, seconds, P) == expected


@pytest.mark.parametrize("seconds", [0.001, 0.0201, 0.9, 1.0])
def test_sounds_are_measured_to_their_last_whole_frame(seconds: float):
    samples = tone(seconds)
    piece = reader().audio(Audio(samples, rate=16_000))
    padded = np.pad(samples, (0, max(0, 321 - len(samples))))
    made = Gemma4AudioFeatureExtractor(feature_size=32)([padded])
    mel_TM = made["input_features"][0][made["input_features_mask"][0]]
    np.testing.assert_allclose(piece.value.numpy(), mel_TM.T, atol=1e-6)
    assert piece.value.shape[1] == (max(len(samples), 321) - 161) // 160 + 1
    assert piece.tokens == math.ceil(math.ceil(piece.value.shape[1] / 2) / 2)


def test_sounds_and_soundtracks_end_at_their_limit_and_that_is_said():
    long = Audio(tone(3.0), rate=16_000, name="long")
    with pytest.raises(ContentError, match="long: is 3.0 s long, at most 2 s are taken"):
        reader().audio(long)
    talk = Video(video_bytes(numbered_frames(12), fps=4, sound=tone(3.0, 48_000)), name="talk.mp4")
    with collected_notes() as notes:
        piece, mel_MT = reader(cut=True).audio(long), reader().soundtrack(talk)
    assert notes == ["long: cut from 3.0 to 2 s", "talk.mp4: its soundtrack is cut from 3.0 to 2 s"]
    assert piece.value.shape[1] == mel_MT.shape[1] == 199
    assert reader().soundtrack(Video(talk.source, name="talk.mp4", sound=False)) is None


def test_a_rate_that_the_model_does_not_hear_is_refused():
    with pytest.raises(ConfigError, match="audio_rate=8000: this model hears 16000"):
        reader(numbers=GemmaPreprocessing(audio_rate=8000))
