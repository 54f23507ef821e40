from __future__ import annotations

import json

import pytest

from commonspace.errors import ConfigError
from commonspace.processing.gemma_preprocessing import GemmaPreprocessing
from commonspace.processing.native_preprocessing import NativePreprocessing


def test_json_and_back_is_the_same_and_holds_no_number_without_effect():
    numbers = GemmaPreprocessing(image_max_tokens=140, video_timestamps=True)
    value = json.loads(json.dumps(numbers.to_json()))
    assert GemmaPreprocessing.from_json(value) == numbers and value["video_timestamps"] is True
    assert not set(value) & set(GemmaPreprocessing.unused)


def test_json_of_another_kind_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"unknown \['audio_fft', .*'video_min_frames'\]"):
        GemmaPreprocessing.from_json(NativePreprocessing().to_json())
