"""What every decoder of foreign bytes is wrapped in: whatever it raises becomes one error that names the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from commonspace.errors import ContentError

# What FFmpeg may find in a file. Not among them are playlists (hls, concat, dash ...), which name other files to read,
# and its readers of single images, which `commonspace.processing.image` is for.
CONTAINERS = (
    *(
        "mov",
        "mp4",
        "matroska",
        "webm",
        "avi",
        "gif",
        "apng",
        "flv",
        "mpegts",
        "mpeg",
        "mpegvideo",
        "asf",
        "mxf",
        "nut",
    ),
    *("h264", "hevc", "m4v", "obu", "ivf", "h263", "vc1", "dv"),
    *("ogg", "wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ac3", "eac3", "amr", "ape", "tta", "wv", "voc"),
)
_CAUSE_LETTERS = 160


@contextmanager
def decoding(label: str, failure: str, advice: str = "replace the file") -> Iterator[None]:
    """Any error inside becomes a ContentError "LABEL: FAILURE (its cause); ADVICE".

    Decoders raise what they like on hostile bytes (struct.error, KeyError, MemoryError ...), so nothing is listed here.
    Only calls into a decoder belong inside.
    """
    try:
        yield
    except ContentError:
        raise
    except Exception as error:
        raise ContentError(f"{label}: {failure} ({cause(error)}); {advice}") from error


def cause(error: BaseException) -> str:
    """What an error says, on one line and without addresses in memory; the name of its kind where it says nothing."""
    said = getattr(error, "strerror", None) or str(error)
    said = re.sub(r"(Error opening )?<[\w.]+ object at 0x[0-9a-f]+>:? ?", "", said)
    said = " ".join(said.split())[:_CAUSE_LETTERS].rstrip(" .")
    return said or type(error).__name__


def container_options(max_pixels: int) -> dict[str, Any]:
    """Arguments of `av.open`: no file but the one given is read, no picture above `max_pixels` is decoded."""
    return {
        "container_options": {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "none"},
        "options": {"max_pixels": str(max_pixels)},
        "metadata_errors": "replace",  # a title in a broken encoding is no reason to refuse a clip
    }
