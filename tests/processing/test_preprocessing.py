from __future__ import annotations

import json

import pytest

from commonspace.errors import ConfigError
from commonspace.processing.preprocessing import Preprocessing


def test_json_and_back_is_the_same():
    preprocessing = Preprocessing(image_size=160, video_fps=2.0)
    assert Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json()))) == preprocessing


def test_json_of_before_there_was_a_choice_has_the_first_one():
    value = Preprocessing().to_json()
    del value["image_patch"], value["audio_frames_per_row"]
    assert Preprocessing.from_json(value) == Preprocessing()


def test_json_of_another_version_is_refused_by_name():
    value = Preprocessing().to_json()
    value["image_colour"] = value.pop("image_size")
    with pytest.raises(ConfigError, match=r"missing \['image_size'\], unknown \['image_colour'\]"):
        Preprocessing.from_json(value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_size": 0}, "preprocessing.image_size=0"),
        ({"video_fps": "1"}, "preprocessing.video_fps='1'"),
        ({"max_images": True}, "preprocessing.max_images=True"),
        ({"max_pages": 0}, "preprocessing.max_pages=0"),
        ({"video_timestamps": 1}, "preprocessing.video_timestamps=1 must be true or false"),
        ({"video_min_frames": 9}, "video_min_frames is above"),
        ({"max_text_tokens": 600}, "no effect"),
        ({"audio_hop": 150}, "no whole number of mel frames"),
        ({"image_patch": 0}, "preprocessing.image_patch=0"),
        ({"image_patch": 15}, "image_size=224 is no multiple of image_patch=15"),
        ({"audio_frames_per_row": None}, "preprocessing.audio_frames_per_row=None"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**wrong)
