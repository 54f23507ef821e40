from __future__ import annotations

import json

import pytest

from commonspace.errors import ConfigError
from commonspace.processing.native_preprocessing import NativePreprocessing
from commonspace.processing.preprocessing import Preprocessing
from commonspace.prompts import PREFIXES, prefix


def test_json_and_back_is_the_same_and_holds_no_number_without_effect():
    numbers = NativePreprocessing(image_max_tokens=64, video_fps=2.0)
    value = json.loads(json.dumps(numbers.to_json()))
    assert NativePreprocessing.from_json(value) == numbers
    assert set(Preprocessing().to_json()) - set(value) == {
        "image_size", "image_grid", "document_grid", "frame_grid", "audio_merge", "video_timestamps",
    }  # fmt: skip


def test_json_of_another_kind_or_version_is_refused_by_name():
    value = NativePreprocessing().to_json()
    with pytest.raises(ConfigError, match=r"unknown \['image_size'\]"):
        NativePreprocessing.from_json({**value, "image_size": 224})
    value["frame_budget"] = value.pop("frame_max_tokens")
    with pytest.raises(ConfigError, match=r"missing \['frame_max_tokens'\], unknown \['frame_budget'\]"):
        NativePreprocessing.from_json(value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image_min_tokens": 0}, "image_min_tokens=0 must be a positive number"),
        ({"image_min_tokens": 9, "image_max_tokens": 4}, "image_min_tokens is above image_max_tokens"),
        ({"frame_min_tokens": 512}, "frame_min_tokens is above frame_max_tokens"),
        ({"max_tokens": 100}, "max_text_tokens is above max_tokens"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        NativePreprocessing(**wrong)


def test_one_prefix_stands_in_for_those_of_all_tasks():
    options = {"name": "omni", "query_prefix": "Query: "}
    found = NativePreprocessing.of(options)
    assert (
        prefix("clustering", "query", found.prefixes) == prefix("search result", "query", found.prefixes) == "Query: "
    )
    assert prefix("question answering", "document", found.prefixes) == ""
    assert NativePreprocessing.of({**options, "query_prefix": None}).prefixes == PREFIXES
    assert NativePreprocessing.from_json(found.to_json()) == found


def test_folders_of_before_what_stands_around_have_nothing_around():
    value = NativePreprocessing().to_json()
    assert (value.pop("before"), value.pop("after")) == ("", "")
    assert NativePreprocessing.from_json(value) == NativePreprocessing()
