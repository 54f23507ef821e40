"""Sounds that are no speech: the record of one with its name, and a check of what its samples hold."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import soundfile

from commonspace.content import Audio, Content
from commonspace.data.sample import Record, Variant
from data_prep.keys import record_key

QUIET = 1e-3  # of full scale, -60 dB: what never gets louder is silence to a listener
MAX_MUSIC_SECONDS = 30.0  # a model takes no more, and the rest of a piece may be another mood


@dataclass(frozen=True)
class Heard:
    """What a sound is by its samples: length, greatest amplitude, and a digest that no tag or file header changes."""

    seconds: float
    peak: float
    digest: bytes


def sound_record(
    source: str, path: tuple[str, ...], audio: Path | bytes, text: str, concept: str, category: str
) -> Record:
    """A `sound` record: the noise and its English name. `path` is where it lies in its source, file name last."""
    *folders, file = path
    return Record(
        key=record_key(source, *folders, Path(file).stem, "sound"),
        task="sound",
        source=source,
        concept=concept,
        queries=(Variant(Content(Audio(audio, name="/".join((source, *path))))),),
        positives=(Variant(Content(text), "en"),),
        extra={"category": category},
    )


def listen(data: bytes) -> Heard:
    """Decode the bytes of a sound file whole.

    Raises:
        soundfile.LibsndfileError: it cannot be decoded.
    """
    samples, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    rounded = np.round(samples * 32767).astype("<i4")
    return Heard(
        seconds=len(samples) / rate,
        peak=float(np.abs(samples).max(initial=0)),
        digest=blake2b(rounded.tobytes(), digest_size=16).digest(),
    )


def usable_sounds(records: Iterator[Record], drops: Counter, music: frozenset[str] = frozenset()) -> Iterator[Record]:
    """All records but those of task `sound` that nobody can learn from, whose reasons are counted.

    music  categories in which a sound may be no longer than `MAX_MUSIC_SECONDS`
    """
    digests: set[bytes] = set()
    for record in records:
        reason = _unusable(record, digests, music) if record.task == "sound" else None
        if reason:
            drops[reason] += 1
        else:
            yield record


def _unusable(record: Record, digests: set[bytes], music: frozenset[str]) -> str | None:
    (part,) = record.queries[0].content.parts
    if not isinstance(part, Audio):
        return "sound that is no audio"
    try:
        heard = listen(part.read_bytes())
    except soundfile.LibsndfileError:
        return "sound that cannot be read"
    if not heard.seconds:
        return "sound without samples"
    if heard.peak < QUIET:
        return "sound that is silent"
    if heard.seconds > MAX_MUSIC_SECONDS and record.extra.get("category") in music:
        return f"music longer than {MAX_MUSIC_SECONDS:g} s"
    if heard.digest in digests:
        return "sound that repeats another one, sample for sample"
    digests.add(heard.digest)
    return None
