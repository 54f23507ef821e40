"""The library's calls against a stand-in for it, which hands samples to the callback as eSpeak NG does."""

from __future__ import annotations

import ctypes
import io

import numpy as np
import pytest
import soundfile

from commonspace.errors import DataError
from data_prep import speech_synthesis
from data_prep.speech_synthesis import Speaker


class Library:
    """Says a tone of 100 samples per byte of text, in pieces; knows the voice "fr"."""

    rate = 22_050

    def __init__(self) -> None:
        self.callback = None

    def espeak_Initialize(self, output, _buffer, path, _options):
        assert output == 1
        return self.rate if path.endswith(b"data") else -1

    def espeak_SetSynthCallback(self, callback):
        self.callback = callback

    def espeak_SetVoiceByName(self, name):
        return int(name != b"fr")

    def espeak_Synth(self, text, size, *_rest):
        assert size.value == len(text) + 1
        wave = (1000 * np.sin(np.arange(100 * len(text.strip())))).astype(np.int16)
        for piece in np.array_split(wave, 3) if len(wave) else ():
            block = (ctypes.c_short * len(piece))(*piece.tolist())
            assert self.callback(block, len(piece), None) == 0
        self.callback(None, 0, None)

    def espeak_Synchronize(self):
        pass


@pytest.fixture
def speaker(monkeypatch, tmp_path):
    monkeypatch.setattr(speech_synthesis.ctypes, "CDLL", lambda _path: Library())
    return Speaker(tmp_path / "lib.so", tmp_path / "data")


def test_all_pieces_of_a_sentence_at_one_loudness(speaker):
    samples, rate = soundfile.read(io.BytesIO(speaker.speak("hibou", "fr")))
    assert rate == Library.rate and len(samples) == 500
    wave = np.sin(np.arange(500))
    np.testing.assert_allclose(samples, wave * 0.7 / np.abs(wave).max(), atol=2e-3)


def test_one_sentence_leaves_nothing_for_the_next(speaker):
    first, second = (speaker.speak(text, "fr") for text in ("a long one", "short"))
    assert soundfile.info(io.BytesIO(first)).frames == 1000 and soundfile.info(io.BytesIO(second)).frames == 500


def test_nothing_said_is_none_and_an_unknown_voice_is_named(speaker):
    assert speaker.speak(" ", "fr") is None
    with pytest.raises(DataError, match="no voice 'xx'"):
        speaker.speak("hibou", "xx")


def test_a_library_of_another_machine_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "lib.so").write_bytes(b"not a library")
    with pytest.raises(DataError, match=r"lib\.so: cannot be loaded .* data\.only"):
        Speaker(tmp_path / "lib.so", tmp_path)
    monkeypatch.setattr(speech_synthesis.ctypes, "CDLL", lambda _path: Library())
    with pytest.raises(DataError, match="does not accept its data"):
        Speaker(tmp_path / "lib.so", tmp_path / "elsewhere")
