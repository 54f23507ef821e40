"""What is measured of rows: media that cannot be read are told apart from those that can."""

from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.content import Audio, Content, Video
from tests.data_prep.quality.test_mix import Tiers, numbers
from tests.media import noise, numbered_frames, sound_bytes, video_bytes

PAGE = b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 20


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers(tmp_path)


def test_clips_that_cannot_be_read_are_left_out_of_training(tiers: Tiers) -> None:
    whole = video_bytes(numbered_frames(8))
    clips = [whole, whole[: len(whole) // 2], PAGE, sound_bytes(noise(0.5)), b""]
    rows = [(Content(Video(data)), f"caption {number}") for number, data in enumerate(clips)]
    tiers.tier("one", "train", "video_caption", rows)
    assert tiers.mix("one")["dropped"] == {"a medium cannot be read": 4}
    assert numbers(tiers.keys("video_caption")) == ["one-0"]


def test_sounds_that_cannot_be_read_are_left_out_of_training(tiers: Tiers) -> None:
    rows = [(Content(Audio(data)), f"caption {number}") for number, data in enumerate((sound_bytes(noise(1)), PAGE))]
    tiers.tier("one", "train", "sound", rows)
    assert tiers.mix("one")["dropped"] == {"a medium cannot be read": 1}
