"""Spoken clips with the words that were recorded, and the texts that they may ask for, by language."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from commonspace.content import Audio, Content, Text
from commonspace.data.sample import Record, Variant
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.evaluation.relevance import normalise

ENGLISH = "en"


@dataclass(frozen=True)
class Clip:
    """One recording: `words` is what is said in it, in `language`; `digest` is of its sound alone."""

    key: str
    concept: str
    source: str
    language: str
    sound: Audio
    words: str
    digest: int


@dataclass(frozen=True)
class Written:
    """One text of a language, once for all that read the same: of which concepts, and the digests of its spellings."""

    language: str
    text: str
    concepts: frozenset[str]
    digests: frozenset[int]


def spoken_form(text: str) -> str:
    """A text as it sounds: NFKC, casefold, punctuation and symbols to spaces, spaces squeezed. Of text that is nothing
    else its normalised form.
    """
    plain = normalise(text)
    kept = "".join(" " if unicodedata.category(mark)[0] in "PS" else mark for mark in plain)
    return " ".join(kept.split()) or plain


def read_clips(root: Path, split: str) -> list[Clip]:
    """The clips of the `speech` shards; DataError where there are none, or none in English, which the cascade needs."""
    if not (root / "speech" / f"{split}.json").exists():
        raise DataError(f"{root / 'speech'}: no {split} split, and clips are of it; run `commonspace data build`")
    clips = [_clip(record) for record in ShardReader(root / "speech", split)]
    if not any(clip.language == ENGLISH for clip in clips):
        heard = ", ".join(sorted({clip.language for clip in clips} - {""})) or "no known language"
        raise DataError(
            f"{root / 'speech'}: no clip of {split} is in English, all that the cascade's decoder hears, but in "
            f"{heard}; take another split or tier, or build this one with a source that speaks English"
        )
    return clips


def _clip(record: Record) -> Clip:
    (sound,), text = record.queries[0].content.parts, record.positives[0]
    assert isinstance(sound, Audio)
    language = text.language or str(record.extra.get("language") or "")
    digest = record.queries[0].content.digest()
    return Clip(record.key, record.concept, record.source, language, sound, _text(text.content), digest)


def read_texts(root: Path, split: str, clips: Sequence[Clip]) -> list[Written]:
    """What clips ask for, in every language that is spoken: all that was recorded, and the captions of sources that
    speak (a stamp has one in every language, whoever read it out).
    """
    spoken, sources = {clip.language for clip in clips}, {clip.source for clip in clips}
    found: dict[tuple[str, str], tuple[str, set[str], set[int]]] = {}
    for source, concept, variant in _variants(root, split):
        if source in sources and variant.language in spoken:
            text = _text(variant.content)
            _, concepts, digests = found.setdefault((variant.language, spoken_form(text)), (text, set(), set()))
            concepts.add(concept)
            digests.add(variant.content.digest())
    return [
        Written(language, text, frozenset(concepts), frozenset(digests))
        for (language, _), (text, concepts, digests) in sorted(found.items())
    ]


def _variants(root: Path, split: str) -> Iterator[tuple[str, str, Variant]]:
    for shard in ("speech", "image_caption"):
        if (root / shard / f"{split}.json").exists():
            for record in ShardReader(root / shard, split):
                yield from ((record.source, record.concept, variant) for variant in record.positives)


def _text(content: Content) -> str:
    return "\n".join(part.text for part in content.parts if isinstance(part, Text))
