from __future__ import annotations

from tests.processing.native import OMNI, QWEN3_OMNI


def test_qwen25_takes_turns_of_two_seconds():
    """Four steps of a second each: 25 positions apart, so two in each turn of 50; three seconds of sound."""
    runs = OMNI.interleaved(4, 6, 1.0, 75)
    assert runs == [("video", 12), ("audio", 50), ("video", 12), ("audio", 25)]


def test_qwen3_places_each_step_at_its_time():
    """Steps at 0, 13 and 26; sound at 0 to 29: a step comes before the sound of its own moment."""
    runs = QWEN3_OMNI.interleaved(3, 6, 1.0, 30)
    assert runs == [("video", 6), ("audio", 13), ("video", 6), ("audio", 13), ("video", 6), ("audio", 4)]


def test_whatever_is_longer_stands_whole_at_the_end():
    for layout in (OMNI, QWEN3_OMNI):
        for steps, sound in ((1, 200), (20, 3)):
            counts = {"video": 0, "audio": 0}
            for kind, count in layout.interleaved(steps, 4, 2.0, sound):
                counts[kind] += count
            assert counts == {"video": 4 * steps, "audio": sound}
