"""Rough token counts and file endings, read off the bytes without decoding them.

Length buckets need only the order of the records of one task by length, so a guess that is off by a constant factor
costs nothing; decoding every medium while shards are written would cost hours on large sets.
"""

from __future__ import annotations

import io
from pathlib import PurePath

from commonspace.content import Audio, Content, Document, Image, Part, Pdf, Text, Video

IMAGE_TOKENS = 11  # a 3 x 3 grid and two marks
PAGE_TEXT_TOKENS = 300  # of a page's text layer, where the content asks for it
VIDEO_TOKENS = 34  # eight frames of a 2 x 2 grid and two marks
AUDIO_TOKENS_PER_SECOND = 12.5
AUDIO_BYTES_PER_SECOND = 8_000  # only where the header does not tell the length
BYTES_PER_TOKEN = 3.6  # UTF-8 bytes of a sentencepiece token, about the same in Latin, Cyrillic and CJK scripts

_SIGNATURES = (
    (b"\x89PNG", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tif"),
    (b"MM\x00*", "tif"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"ID3", "mp3"),
    (b"\xff\xfb", "mp3"),
    (b"\x1aE\xdf\xa3", "mkv"),
    (b"%PDF", "pdf"),
)


def file_ending(data: bytes, name: str | None) -> str:
    """The ending a medium gets in its shard: that of its name, else by its first bytes, else "bin"."""
    ending = PurePath(name).suffix[1:].lower() if name else ""
    if ending.isascii() and ending.isalnum() and len(ending) <= 5:
        return ending
    if data[:4] == b"RIFF":
        return {b"WAVE": "wav", b"WEBP": "webp", b"AVI ": "avi"}.get(data[8:12], "bin")
    if data[4:8] == b"ftyp":
        return "mp4"
    if b"<svg" in data[:512]:
        return "svg"
    return next((ending for signature, ending in _SIGNATURES if data.startswith(signature)), "bin")


def estimate_tokens(content: Content) -> int:
    """About how many tokens the backbone will see for `content`, its `<s>` and `</s>` included."""
    return 2 + sum(_part_tokens(part) for part in content.parts)


def _part_tokens(part: Part | Pdf) -> int:
    if isinstance(part, Text):
        return max(1, round(len(part.text.encode()) / BYTES_PER_TOKEN))
    if isinstance(part, Image):
        return IMAGE_TOKENS
    if isinstance(part, Audio):
        return 2 + max(1, round(_seconds(part.read_bytes()) * AUDIO_TOKENS_PER_SECOND))
    if isinstance(part, Video):
        return VIDEO_TOKENS
    if isinstance(part, Pdf):
        return _pages(part.read_bytes()) * (IMAGE_TOKENS + PAGE_TEXT_TOKENS * bool(part.text))
    assert isinstance(part, Document)
    return 2 + sum(_part_tokens(inner) for inner in part.parts)


def _seconds(data: bytes) -> float:
    """Length of a sound in seconds by its header, or by its size where the header cannot be read."""
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            return sound.frames / sound.samplerate
    except (soundfile.LibsndfileError, RuntimeError):
        return len(data) / AUDIO_BYTES_PER_SECOND


def _pages(data: bytes) -> int:
    """Pages of a PDF by its page tree, one where that cannot be read."""
    import pypdfium2

    try:
        with pypdfium2.PdfDocument(data) as document:
            return len(document)
    except pypdfium2.PdfiumError:
        return 1
