from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as pil

from commonspace.content import Audio, Document, Image, Video
from commonspace.errors import ContentError
from commonspace.processing.document import document_parts
from commonspace.processing.media import collected_notes
from commonspace.processing.native_media import BudgetFit, NativeReader
from commonspace.processing.native_preprocessing import NativePreprocessing
from tests.media import numbered_frames, pdf_bytes, pdf_page, tone, video_bytes
from tests.processing.native import OMNI, QWEN3_VL

P = NativePreprocessing(
    image_max_tokens=64, frame_min_tokens=4, frame_max_tokens=16, video_max_frames=4, max_video_seconds=8.0
)


def reader(**options: bool) -> NativeReader:
    return NativeReader(P, OMNI, **{"cut": False, **options})


def grey(width: int, height: int) -> pil.Image:
    return pil.new("RGB", (width, height), (90, 90, 90))


@pytest.mark.parametrize("size", [(56, 84), (100, 100), (300, 50), (1, 1), (2000, 1500), (3, 600), (5000, 1), (1, 900)])
def test_pictures_become_whole_tokens_within_the_budget(size: tuple[int, int]):
    pixels_3HW = BudgetFit(28, 4, 64)(grey(*size))
    height, width = pixels_3HW.shape[1:]
    assert pixels_3HW.dtype == torch.uint8 and height % 28 == width % 28 == 0
    assert 4 <= height * width // 28**2 <= 64
    if max(size) <= 20 * min(size) and max(size) > 40:  # the aspect is kept to within the rounding of its sides
        assert abs(height - width * size[1] / size[0]) <= 28


def test_a_picture_that_fits_is_left_as_it_is():
    values = np.random.default_rng(0).integers(0, 255, (56, 84, 3), dtype=np.uint8)
    assert torch.equal(BudgetFit(28, 4, 64)(pil.fromarray(values)), torch.from_numpy(values).permute(2, 0, 1))


def test_all_frames_take_the_size_of_the_first():
    fit = BudgetFit(28, 4, 64)
    assert fit(grey(56, 84)).shape == fit(grey(300, 90)).shape == (3, 84, 56)


def test_pages_and_images_count_their_tokens():
    piece = reader().image(Image(np.zeros((80, 120, 3), np.uint8)))
    assert piece.tokens == piece.value.shape[1] * piece.value.shape[2] // 28**2 == 3 * 4
    (page,) = document_parts(Document.from_pdf(pdf_bytes([pdf_page("a red fox")])), 3)
    drawn = reader().image(page)
    assert 40 <= drawn.tokens <= 64 and drawn.value.shape[2] > 1.5 * drawn.value.shape[1]  # it is twice as wide as high


def test_a_clip_keeps_its_frames_and_their_distance():
    clip = reader().clip(Video(numbered_frames(3), fps=5, name="clip"))
    assert clip.seconds == pytest.approx([0, 0.2, 0.4]) and clip.step == round(0.2 * 2048) / 2048
    assert clip.frames_F3HW.shape[:2] == (3, 3)
    assert clip.frames_F3HW.float().mean((1, 2, 3)).tolist() == pytest.approx([0, 4, 8], abs=0.5)


def test_a_clip_that_is_too_long_is_refused_or_cut_and_said():
    long = Video(numbered_frames(20), fps=2, name="long")
    with pytest.raises(ContentError, match="long: is 10.0 s long, at most 8 s are taken"):
        reader().clip(long)
    with collected_notes() as notes:
        clip = reader(cut=True).clip(long)
    assert notes == ["long: cut from 10.0 to 8 s"] and len(clip.seconds) == 4


def test_sounds_are_whole_seconds_of_the_models_rate():
    piece = reader().audio(Audio(tone(1.2), rate=16_000))
    assert piece.value.shape == (128, 200) and piece.tokens == 50
    with pytest.raises(ContentError, match="bark: this model has no audio tower"):
        NativeReader(P, QWEN3_VL, cut=False).audio(Audio(tone(1.0), rate=16_000, name="bark"))


def test_soundtracks_are_read_where_there_is_one_and_it_is_heard():
    talk = Video(video_bytes(numbered_frames(8), fps=4, sound=tone(2.0, 48_000)), name="talk.mp4")
    mel_MT = reader().soundtrack(talk)
    assert mel_MT.shape[0] == 128 and mel_MT.shape[1] >= 200
    assert reader().soundtrack(Video(talk.source, name="talk.mp4", sound=False)) is None
    assert reader().soundtrack(Video(video_bytes(numbered_frames(8), fps=4), name="mute.mp4")) is None
    with collected_notes() as notes:
        assert NativeReader(P, QWEN3_VL, cut=False).soundtrack(talk) is None
    assert notes == ["talk.mp4: its soundtrack is left out, this model does not hear"]
