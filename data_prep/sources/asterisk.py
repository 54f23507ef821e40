"""Telephone prompts of Asterisk: one studio voice a language, with the text that it speaks."""

from __future__ import annotations

import gzip
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import soundfile

from commonspace.content import Audio, Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.keys import record_key
from data_prep.source import Package, Reader, Source
from data_prep.split import concept

_NAME = "asterisk"
_VERSION = "1.6.1-1"
_RATE = 8000  # Hz, of GSM 06.10
_MIN_SECONDS = 0.2
_NOTE = re.compile(r"\s*(\[[^\]]*\]|\([^)]*\)|<[^>]*>)")  # stage directions: "(simple tone sound plays)"
_NOTE_AT_STOP = re.compile(_NOTE.pattern + r"(?=[.,])")


def _package(language: str, kind: str, sha256: str, size: int) -> Package:
    name = f"asterisk-core-sounds-{language}{kind}"
    return Package("apt", name, _VERSION, f"{name}_{_VERSION}_all.deb", sha256, size)


_PACKAGES = {
    "en": (
        _package("en", "", "973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50", 22844),
        _package("en", "-gsm", "ddc33205a56aebf54c73a0fb95c3a0d8131087878d74857a4e54bcab2b0d72ae", 2417168),
    ),
    "fr": (
        _package("fr", "", "04c82c78c570c43a7136cbc5e2488d0c470b775468dff9fbce4a131b18cf1056", 23152),
        _package("fr", "-gsm", "97bd8bebb7ef775046802a5a466d8f89916f54f437e158a1ec537cef814d44fd", 2466860),
    ),
    "ru": (
        _package("ru", "", "28a61616bb0cd3345a7ea532dec4df9f071e5d0fa9f8c1a563ea9669002f39ab", 25592),
        _package("ru", "-gsm", "19770f5c211e8c3a1dc8eefd703382570da7edf00c52db069ebc2a64d5dda4bd", 2415624),
    ),
}


def records_of(language: str, folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """Spoken prompts of one language with their transcripts; the concept is the English text of the same prompt."""
    texts = _transcripts(folders[f"asterisk-core-sounds-{language}"], language)
    english = _transcripts(folders["asterisk-core-sounds-en"], "en")
    root = folders[f"asterisk-core-sounds-{language}-gsm"] / "usr/share/asterisk/sounds"
    voices = sorted(path for path in root.glob("*") if path.is_dir()) if root.is_dir() else []
    if len(voices) != 1:
        raise DataError(f"{_NAME}: {root} holds {len(voices)} voices, not one; fetch the package again")
    for path in sorted(voices[0].rglob("*.gsm")):
        prompt = path.relative_to(voices[0]).with_suffix("").as_posix()
        if prompt not in texts:
            drops[f"{language}: no transcript"] += 1
        elif not (spoken := spoken_text(texts[prompt])):
            drops[f"{language}: tone or silence, not speech"] += 1
        elif (sound := _flac(path)) is None:
            drops[f"{language}: shorter than {_MIN_SECONDS} s"] += 1
        else:
            name = spoken_text(english.get(prompt, "")) or re.sub(r"[-_/]", " ", prompt)
            yield Record(
                key=record_key(_source_name(language), prompt),
                task="speech",
                source=_source_name(language),
                concept=concept(name),
                queries=(Variant(Content(Audio(sound, name=path.name)), language),),
                positives=(Variant(Content(spoken), language),),
                extra={"language": language, "prompt": prompt},
            )


def spoken_text(transcript: str) -> str:
    """What is said: the transcript without stage directions and stray quotes; "" where nothing is said."""
    plain = _NOTE.sub(" ", _NOTE_AT_STOP.sub("", transcript))
    return " ".join(plain.strip('“”" ').split())


def _transcripts(folder: Path, language: str) -> dict[str, str]:
    """Lines "prompt: text" of core-sounds-<language>.txt.gz, comments and blank ones left out."""
    name = f"asterisk-core-sounds-{language}"
    path = folder / f"usr/share/doc/{name}/core-sounds-{language}.txt.gz"
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines()
    except (OSError, EOFError) as error:
        raise DataError(f"{_NAME}: {path} cannot be read ({error}); delete {folder} and build again") from error
    pairs = (line.split(":", 1) for line in lines if ":" in line and not line.startswith(";"))
    return {prompt.strip(): text.strip() for prompt, text in pairs}


def _flac(path: Path) -> bytes | None:
    """The clip as FLAC, which keeps what GSM left and which every reader knows; None where it is too short."""
    try:
        samples, _ = soundfile.read(
            path, dtype="int16", format="RAW", subtype="GSM610", samplerate=_RATE, channels=1, always_2d=False
        )
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise DataError(f"{_NAME}: {path} is not GSM audio ({error}); delete its folder and build again") from error
    if len(samples) < _MIN_SECONDS * _RATE or not np.any(samples):
        return None
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, _RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _source_name(language: str) -> str:
    return f"{_NAME}-{language}"


def _english(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    return records_of("en", folders, drops)


def _french(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    return records_of("fr", folders, drops)


def _russian(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    return records_of("ru", folders, drops)


def _source(language: str, tiers: set[str], records: Reader) -> Source:
    english = _PACKAGES["en"][:1] if language != "en" else ()  # its texts name the concepts of the other languages
    return Source(
        name=_source_name(language),
        packages=_PACKAGES[language] + english,
        licence="CC-BY-SA-3.0",
        provenance=f"Debian asterisk-core-sounds-{language} {_VERSION}: studio recordings by Digium with transcripts",
        tiers=frozenset(tiers),
        records=records,
    )


SOURCES = (
    _source("en", {"tiny", "mini"}, _english),
    _source("fr", {"tiny", "mini"}, _french),
    _source("ru", {"mini"}, _russian),
)
