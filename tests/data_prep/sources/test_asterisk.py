from __future__ import annotations

import gzip
import io

import numpy as np
import pytest
import soundfile

from commonspace.errors import DataError
from data_prep.sources import all_sources
from data_prep.sources.asterisk import spoken_text


def gsm(samples: int = 8000, loudness: float = 0.4) -> bytes:
    buffer = io.BytesIO()
    wave = loudness * np.sin(np.arange(samples) * 2 * np.pi * 440 / 8000)
    soundfile.write(buffer, wave, 8000, format="RAW", subtype="GSM610")
    return buffer.getvalue()


def texts(language: str) -> str:
    name = f"asterisk-core-sounds-{language}"
    return f"usr/share/doc/{name}/core-sounds-{language}.txt.gz"


@pytest.fixture
def root(tmp_path, write):
    english = "; English\n\nagent-pass: Please enter your password.\ndigits/1: one\nbeep: [a tone]\nshort: s\n"
    french = "; French\nagent-pass: “Composez votre mot de passe (emphase).”\ndigits/1: un\nnew-here: nouveau\n"
    write(texts("en"), gzip.compress(english.encode()))
    write(texts("fr"), gzip.compress(french.encode()))
    for voice, prompts in {"en_US_f": ("agent-pass", "digits/1", "beep"), "fr_CA_f": ()}.items():
        for prompt in prompts:
            write(f"usr/share/asterisk/sounds/{voice}/{prompt}.gsm", gsm())
    return tmp_path


def voice_of(root, write, name: str, *prompts: str) -> None:
    for path in list((root / "usr/share/asterisk/sounds").glob("*/*")):
        if path.is_file():
            path.unlink()
    import shutil

    shutil.rmtree(root / "usr/share/asterisk/sounds", ignore_errors=True)
    for prompt in prompts:
        write(f"usr/share/asterisk/sounds/{name}/{prompt}.gsm", gsm())


def test_english_prompts_with_their_words(root, write, read):
    voice_of(root, write, "en_US_f", "agent-pass", "digits/1", "beep", "unknown")
    records, drops = read(all_sources()["asterisk-en"], root=root)
    found = {record.extra["prompt"]: record for record in records["speech"]}
    assert set(found) == {"agent-pass", "digits/1"}
    assert found["agent-pass"].positives[0].content.parts[0].text == "Please enter your password."
    assert found["digits/1"].concept == "one"
    assert drops == {"en: tone or silence, not speech": 1, "en: no transcript": 1}


def test_the_sound_is_flac_at_its_own_rate(root, write, read):
    voice_of(root, write, "en_US_f", "digits/1")
    records, _ = read(all_sources()["asterisk-en"], root=root)
    samples, rate = soundfile.read(io.BytesIO(records["speech"][0].queries[0].content.parts[0].source))
    assert rate == 8000 and len(samples) == pytest.approx(8000, abs=160)
    spectrum = np.abs(np.fft.rfft(samples))
    assert np.argmax(spectrum) * rate / len(samples) == pytest.approx(440, abs=5)


def test_a_prompt_has_one_concept_in_every_language(root, write, read):
    voice_of(root, write, "fr_CA_f", "agent-pass", "digits/1", "new-here")
    records, _ = read(all_sources()["asterisk-fr"], root=root)
    concepts = {record.extra["prompt"]: record.concept for record in records["speech"]}
    assert concepts == {"agent-pass": "please enter your password", "digits/1": "one", "new-here": "new here"}
    spoken = {record.extra["prompt"]: record.positives[0] for record in records["speech"]}
    assert (
        spoken["agent-pass"].content.parts[0].text == "Composez votre mot de passe."
        and spoken["digits/1"].language == "fr"
    )


def test_clips_without_a_sound_are_dropped(root, write, read):
    voice_of(root, write, "en_US_f", "digits/1")
    write("usr/share/asterisk/sounds/en_US_f/short.gsm", b"")
    write("usr/share/asterisk/sounds/en_US_f/agent-pass.gsm", gsm(800))
    records, drops = read(all_sources()["asterisk-en"], root=root)
    assert len(records["speech"]) == 1 and drops == {"en: shorter than 0.2 s": 2}


@pytest.mark.parametrize(
    ("transcript", "expected"),
    [
        ("[this is a simple beep tone]", ""),
        ("<beep ascending>", ""),
        ("(10 seconds of silence)", ""),
        ("dash [-]", "dash"),
        ('IAX (note: does not say "2")', "IAX"),
        ("“Pour quitter, appuyez sur 8.”", "Pour quitter, appuyez sur 8."),
    ],
)
def test_stage_directions_are_not_spoken(transcript, expected):
    assert spoken_text(transcript) == expected


def test_a_broken_package_is_named(root, write, read):
    voice_of(root, write, "en_US_f", "digits/1")
    write(texts("en"), b"not gzip")
    with pytest.raises(DataError, match=r"core-sounds-en\.txt\.gz"):
        read(all_sources()["asterisk-en"], root=root)
    write(texts("en"), gzip.compress(b"digits/1: one"))
    voice_of(root, write, "nobody")
    with pytest.raises(DataError, match="holds 0 voices"):
        read(all_sources()["asterisk-en"], root=root)
