"""What a decoder hears in English clips, kept on disk clip by clip, and how far that is from what was said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import track
from torchmetrics.text import WordErrorRate

from commonspace.evaluation.intervals import DRAWS, bootstrap
from commonspace.evaluation.results import Row, Scored
from commonspace.evaluation.speech.clips import ENGLISH, Clip, spoken_form
from commonspace.files import sha256_of, write_text
from commonspace.models.device import best_device
from commonspace.models.speech_decoder import SpeechDecoder

FOLDER = "transcripts"  # of the cache
WER = "WER"


def transcribe(clips: Sequence[Clip], folder: Path, cache: Path, language: str | None = None) -> list[str]:
    """The transcript of every clip by the decoder in `folder`.

    Each is kept in `<cache>/transcripts/<decoder>/<sound>.txt`, under hashes of the folder's files and of the sound's
    bytes, as soon as it is there: a run that was killed goes on, and a second one loads no decoder.
    """
    kept = cache / FOLDER / _fingerprint(folder, language)
    paths = [kept / f"{clip.digest % 2**64:016x}.txt" for clip in clips]
    missing = [(clip, path) for clip, path in zip(clips, paths, strict=True) if not path.exists()]
    if missing:
        decoder = SpeechDecoder(folder, device=best_device(), language=language)
        for clip, path in track(missing, description="transcribing"):
            write_text(path, decoder.transcribe(clip.sound))
    return [path.read_text(encoding="utf-8") for path in paths]


def _fingerprint(folder: Path, language: str | None) -> str:
    state = hashlib.blake2b(str(language).encode(), digest_size=8)
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        state.update(f"{path.name}:{sha256_of(path)}".encode())
    return state.hexdigest()


def error_rate(clips: Sequence[Clip], heard: Sequence[str]) -> float:
    """Word error rate of transcripts against the recorded words, both in their spoken form."""
    said = [spoken_form(clip.words) for clip in clips]
    return float(WordErrorRate()([spoken_form(text) for text in heard], said))


def error_rows(
    clips: Sequence[Clip], heard: Sequence[str], scored: Scored, split: str, draws: int = DRAWS
) -> list[Row]:
    """Word error rates over all clips and of each source, intervals over concepts; `pool` is 0, nothing is ranked."""
    sources = {clip.source for clip in clips}
    chosen = {"all": list(range(len(clips)))}
    for source in sorted(sources) if len(sources) > 1 else ():
        chosen[source] = [n for n, clip in enumerate(clips) if clip.source == source]
    rows = []
    for source, some in chosen.items():
        value, ends = _with_interval([clips[n] for n in some], [heard[n] for n in some], draws)
        rows.append(
            Row(split, "transcript", "speech->text", split, "all", ENGLISH, source, WER, value, ends, len(some), 0.0,
                None, scored.precision, scored.prefix_policy, scored.model, scored.stage, scored.seed, scored.run_id,
                scored.commit, scored.command)
        )  # fmt: skip
    return rows


def _with_interval(clips: Sequence[Clip], heard: Sequence[str], draws: int) -> tuple[float, tuple[float, float]]:
    """A clip's own rate stands for each of its words, so that means over words are rates of the whole."""
    words = [len(spoken_form(clip.words).split()) for clip in clips]
    rates = [error_rate([clip], [text]) for clip, text in zip(clips, heard, strict=True)]
    units = np.repeat([clip.concept for clip in clips], words).tolist()
    low, high = bootstrap(np.repeat(rates, words)[None, :, None], units, draws)[0]
    return error_rate(clips, heard), (float(low), float(high))
