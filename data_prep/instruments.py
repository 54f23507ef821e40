"""Recordings of instruments: short FLAC copies of their first seconds, and names out of what people call such files."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import soundfile

from commonspace.errors import DataError

SECONDS = 4.0  # of one note or beat; what rings on is cut
_WORDS = {
    "hh": "hi-hat",
    "hihat": "hi-hat",
    "hat": "hi-hat",
    "bd": "bass drum",
    "bassdrum": "bass drum",
    "kick": "kick drum",
    "sd": "snare drum",
    "snare": "snare drum",
    "tom": "tom drum",
    "crash": "crash cymbal",
    "ride": "ride cymbal",
    "cl": "closed",
    "op": "open",
    "opened": "open",
    "pd": "pedal",
    "hi": "high",
    "lo": "low",
    "lite": "light",
    "nz": "noise",
    "dist": "distorted",
    "filt": "filtered",
    "ohh": "open hi-hat",
    "splash": "splash cymbal",
}
_BEFORE = frozenset("open closed semi semiopen pedal side low mid middle high floor soft hard light heavy".split())
_NOTHING = frozenset("inch bs flink fx dnb".split())  # sizes, signatures and styles


def short_flac(path: Path, seconds: float = SECONDS) -> bytes:
    """The first seconds in one channel, 16 bits, at the file's own rate.

    Raises:
        DataError: it cannot be decoded, or holds nothing.
    """
    try:
        with soundfile.SoundFile(path) as file:
            samples = file.read(int(seconds * file.samplerate), dtype="float32", always_2d=True).mean(axis=1)
            rate = file.samplerate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise DataError(f"{path}: is no sound ({error}); leave it out") from error
    if not len(samples) or not np.any(samples):
        raise DataError(f"{path}: holds no sound; leave it out")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def instrument_name(text: str) -> str:
    """ "Closed HH 2" -> "closed hi-hat": abbreviations spelled out, kinds before things, no numbers or notes."""
    plain = re.sub(r"\([^)]*\)|\b[a-g]#?\d\s*-\s*", " ", re.sub(r"\bhi[ -]hat", "hihat", text, flags=re.IGNORECASE))
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-.,/]+|\d+", " ", plain)
    words = " ".join(_WORDS.get(word.casefold(), word.casefold()) for word in plain.split()).split()
    kept = [word for word in dict.fromkeys(words) if len(word) > 1 and word not in _NOTHING]
    return " ".join(sorted(kept, key=lambda word: word not in _BEFORE))
