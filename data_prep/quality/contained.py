"""All that a row holds, to look for what is evaluated: its variants and negatives, their parts, those of documents.

By bytes and words everything is held, as an item of 13 bytes; by looks, sound and likeness of words what is in no
document of several parts, at most `MOST` things beyond the first variants, which have columns of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from commonspace.content import Audio, Content, Document, Image, Text
from commonspace.errors import CommonspaceError
from commonspace.evaluation.fingerprints import audio_fingerprint, image_hash
from commonspace.evaluation.relevance import normalise
from commonspace.processing.preprocessing import Preprocessing
from data_prep.quality import minhash

MOST = 32
ITEMS = pa.list_(
    pa.struct(
        [
            ("id", pa.int64()),  # digest of a medium's bytes, of a text as it reads, of a content of several parts
            ("characters", pa.int32()),  # of a text; null for all else
            ("whole", pa.bool_()),  # tells an item however many share it: a medium outside documents of several
            # parts, a text that is alone; in some content of the row
        ]
    )
)
FURTHER = pa.list_(
    pa.struct(
        [
            ("kind", pa.string()),  # of the content, as of a side
            ("characters", pa.int32()),  # of a text; null for a medium
            ("image", pa.uint64()),
            ("sound", pa.binary()),
            ("words", pa.binary()),
        ]
    )
)


def inner(content: Content) -> list[Any]:
    """The parts of a content, and for a document its own."""
    return [one for part in content.parts for one in (part.parts if isinstance(part, Document) else (part,))]


def texts_of(content: Content) -> str:
    """All texts of a content, those of its documents too, in their order."""
    return " ".join(part.text for part in inner(content) if isinstance(part, Text))


def kind_of(content: Content) -> str:
    """text, or the media in it, as "image+text"."""
    return "+".join(sorted(content.modalities))


def picture_hash(part: Image) -> int:
    """Perceptual hash as 64 bits; raises ContentError for what is no picture."""
    return int(np.packbits(image_hash(part, Preprocessing())).view(np.uint64)[0])


def sound_print(part: Audio) -> bytes:
    """Fingerprint of a sound; raises ContentError for what is none."""
    return audio_fingerprint(part, Preprocessing()).tobytes()


def pictures_alone(content: Content) -> list[Image]:
    """Pictures outside documents of several parts."""
    parts = [part.parts[0] if _is_single(part) else part for part in content.parts]
    return [part for part in parts if isinstance(part, Image)]


def _is_single(part: Any) -> bool:
    return isinstance(part, Document) and len(part.parts) == 1


def items_of(contents: Iterable[Content]) -> list[dict[str, Any]]:
    """The items of some contents, each once."""
    found: dict[int, dict[str, Any]] = {}
    for content in contents:
        for digest, characters, whole in _items(content):
            item = found.setdefault(digest, {"id": digest, "characters": characters, "whole": False})
            item["whole"] |= whole
    return list(found.values())


def _items(content: Content) -> Iterator[tuple[int, int | None, bool]]:
    lone = len(inner(content)) == 1
    for part in content.parts:
        for one in part.parts if isinstance(part, Document) else (part,):
            if not isinstance(one, Text):
                state = hashlib.blake2b(one.read_bytes(), digest_size=8)
                whole = not isinstance(part, Document) or _is_single(part)
                yield int.from_bytes(state.digest(), "little", signed=True), None, whole
            elif text := normalise(one.text):
                yield Content(text).digest(), len(text), lone
    if lone:
        return
    if text := normalise(texts_of(content)):
        yield Content(text).digest(), len(text), "+" not in kind_of(content)
    if not content.is_text:
        yield content.digest(), None, True


def further_of(first: Sequence[Content], others: Iterable[Content]) -> list[dict[str, Any]]:
    """Signals beyond those of the first contents: their second pictures and sounds, and what the others have."""
    return list(islice(_further(first, others), MOST))


def _further(first: Sequence[Content], others: Iterable[Content]) -> Iterator[dict[str, Any]]:
    for content in first:
        yield from _media(content, skip=1)
    for content in others:
        text = normalise(texts_of(content))
        words = minhash.signature(text)
        if words is not None:
            yield {"kind": kind_of(content), "characters": len(text), "words": words.tobytes()}
        yield from _media(content)


def _media(content: Content, skip: int = 0) -> Iterator[dict[str, Any]]:
    """Hashes and fingerprints of a content's media but for the first; what cannot be read has none."""
    kind = kind_of(content)
    sounds = [part for part in content.parts if isinstance(part, Audio)]
    for name, measure, media in (("image", picture_hash, pictures_alone(content)), ("sound", sound_print, sounds)):
        for part in media[skip:]:
            with suppress(CommonspaceError, OSError, ValueError, SyntaxError):
                yield {"kind": kind, name: measure(part)}


def without_short(table: pa.Table, least: int) -> pa.Table:
    """The rows, without the items and further signals of texts of fewer than `least` characters."""
    for name in ("items", "further"):
        listed = table.column(name).combine_chunks()
        things, sizes = listed.flatten(), listed.value_lengths().to_numpy()
        characters = things.field("characters")
        keep = characters.is_null().to_numpy(zero_copy_only=False) | (characters.fill_null(0).to_numpy() >= least)
        kept = np.bincount(np.repeat(np.arange(len(sizes)), sizes)[keep], minlength=len(sizes))
        offsets = pa.array(np.concatenate([[0], np.cumsum(kept)]), pa.int32())
        short = pa.ListArray.from_arrays(offsets, things.filter(pa.array(keep)))
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), short)
    return table
