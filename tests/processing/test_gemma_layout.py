"""The order of a clip's frames, stamps and sound, as EmbeddingGemma 2's own processor writes it."""

from commonspace.processing.gemma_layout import GemmaLayout, frames_of

SOUND = {"sampling_rate": 16_000, "frame_length_ms": 20.0, "hop_length_ms": 10.0}
LAYOUT = GemmaLayout("EmbeddingGemma2Processor", 48, {}, {}, frames_per_step=1, audio_tokens=25, sound=SOUND)


def test_frames_alone_stand_one_after_the_other():
    assert LAYOUT.runs([0.0, 1.0, 2.0], 3.0, 70, 0, stamped=False) == [("video", 70)] * 3


def test_stamps_stand_before_frames():
    runs = LAYOUT.runs([0.0, 61.0], 70.0, 4, 0, stamped=True)
    assert runs == [("text", "00:00 "), ("video", 4), ("text", " 01:01 "), ("video", 4)]


def test_each_second_of_sound_follows_its_frame_and_none_is_lost():
    runs = LAYOUT.runs([0.0, 1.0], 2.0, 4, 200, stamped=False)
    assert [kind for kind, _ in runs] == ["text", "video", "text", "audio"] * 2
    assert [run for kind, run in runs if kind == "text"] == ["00:00 ", " 00:00 ", " 00:01 ", " 00:01 "]
    assert sum(run for kind, run in runs if kind == "audio") == LAYOUT.sound_tokens(200) == 50


def test_all_of_a_sound_that_is_longer_or_shorter_than_its_clip_is_laid_out():
    for mel_frames in (1, 60, 900):
        runs = LAYOUT.runs([0.0, 1.0], 2.4, 4, mel_frames, stamped=False)
        assert sum(run for kind, run in runs if kind == "audio") == LAYOUT.sound_tokens(mel_frames)


def test_lengths_of_frames_are_samples():
    assert frames_of(SOUND) == {"sampling_rate": 16_000, "frame_length": 320, "hop_length": 160}
