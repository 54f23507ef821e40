from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commonspace.data.sample import Record
from data_prep.sounds import QUIET, listen, sound_record, usable_sounds


def _wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def _tone(seconds: float = 0.5, loudness: float = 0.5, pitch: float = 440.0, rate: int = 8000) -> np.ndarray:
    return loudness * np.sin(np.arange(int(seconds * rate)) * 2 * np.pi * pitch / rate)


def _row(name: str, audio: bytes | Path, category: str = "noise") -> Record:
    return sound_record("one", ("a", f"{name}.wav"), audio, f"a {name}", name, category)


def _kept(*rows: Record, music: frozenset[str] = frozenset()) -> tuple[list[str], Counter]:
    drops: Counter = Counter()
    return [record.concept for record in usable_sounds(iter(rows), drops, music)], drops


def test_a_record_names_its_sound() -> None:
    row = _row("bell", b"x")
    assert (row.task, row.source, row.concept, row.extra) == ("sound", "one", "bell", {"category": "noise"})
    assert row.key.startswith("one-a-bell-sound-")
    assert row.queries[0].content.parts[0].name == "one/a/bell.wav"
    assert row.positives[0].content.parts[0].text == "a bell"


def test_listening() -> None:
    heard = listen(_wav(_tone(seconds=1.5, loudness=0.25)))
    assert heard.seconds == pytest.approx(1.5)
    assert heard.peak == pytest.approx(0.25, abs=1e-3)
    assert listen(_wav(_tone(seconds=1.5, loudness=0.3))).digest != heard.digest


def test_what_nobody_can_learn_from_is_dropped_and_counted() -> None:
    kept, drops = _kept(
        _row("bell", _wav(_tone())),
        _row("gong", _wav(_tone()[:-1])),
        _row("bell again", _wav(_tone())),
        _row("whisper", _wav(_tone(loudness=2 * QUIET))),
        _row("nothing", _wav(_tone(loudness=QUIET / 2))),
        _row("empty", _wav(np.zeros(0))),
        _row("broken", b"RIFF"),
    )
    assert kept == ["bell", "gong", "whisper"]
    assert drops == {
        "sound that repeats another one, sample for sample": 1,
        "sound that is silent": 1,
        "sound without samples": 1,
        "sound that cannot be read": 1,
    }


def test_only_music_may_be_too_long_and_other_tasks_pass_unheard(row, tmp_path: Path) -> None:
    long = _wav(_tone(seconds=31))
    path = tmp_path / "rain.wav"
    path.write_bytes(long)
    kept, drops = _kept(
        _row("symphony", long, "music"),
        _row("rain", path),
        row("x", "query", "positive", "words", task="summary"),
        music=frozenset({"music"}),
    )
    assert kept == ["rain", "words"]
    assert drops == {"music longer than 30 s": 1}
