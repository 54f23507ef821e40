from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from commonspace.errors import DataError
from data_prep.instruments import instrument_name, short_flac


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Closed HH 2", "closed hi-hat"),
        ('Kick (Tama Superstar 22")', "kick drum"),
        ("d#3 - clap", "clap"),
        ("SnareRock", "snare drum rock"),
        ("hollow_kick", "hollow kick drum"),
        ("Djembe1 Slap", "djembe slap"),
        ("tom_hi_hard", "high hard tom drum"),
        ("Hi Hat Closed BS", "closed hi-hat"),
        ("Crash 16 inch", "crash cymbal"),
        ("01", ""),
    ],
)
def test_names_are_spelled_out(text, name):
    assert instrument_name(text) == name


def test_the_first_seconds_in_one_channel(tmp_path):
    rate = 16_000
    wave = np.stack([np.full(3 * rate, 0.5), np.zeros(3 * rate)], axis=1)
    soundfile.write(tmp_path / "x.wav", wave, rate, subtype="PCM_24")
    samples, found = soundfile.read(io.BytesIO(short_flac(tmp_path / "x.wav", seconds=2)))
    assert found == rate and samples.shape == (2 * rate,) and np.allclose(samples, 0.25, atol=1e-4)


def test_silence_and_no_sound_are_refused(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(100), 8000)
    with pytest.raises(DataError, match="holds no sound"):
        short_flac(tmp_path / "x.wav")
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="is no sound"):
        short_flac(tmp_path / "x.wav")
