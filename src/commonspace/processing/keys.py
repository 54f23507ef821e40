"""The name under which a frozen tower's output of one medium is kept."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from commonspace.processing.preprocessing import Preprocessing

What = Literal["image", "page", "frames", "audio", "soundtrack"]

_DECODING = 1  # raised whenever decoding itself changes what it gives for the same file and the same numbers
_SOUND = ("audio_rate", "audio_mels", "audio_fft", "audio_hop")
_PIXELS = ("image_size", "image_patch")
RELEVANT: dict[What, tuple[str, ...]] = {
    "image": _PIXELS,
    "page": _PIXELS,
    "frames": (*_PIXELS, "video_fps", "video_min_frames", "video_max_frames", "max_video_seconds"),
    "audio": (*_SOUND, "max_audio_seconds"),
    "soundtrack": (*_SOUND, "max_video_seconds"),
}


def feature_key(data: bytes, what: What, preprocessing: Preprocessing, tower: str, *options: object) -> str:
    """40 hex digits over the medium's bytes, the numbers that shape its tensors, and the tower's fingerprint.

    `options` are what else decides the output: the token grid, a part's own rate, whether a limit cuts or raises.
    """
    numbers = {name: getattr(preprocessing, name) for name in RELEVANT[what]}
    numbers = {name: number for name, number in numbers.items() if number is not None}  # as before there was a choice
    state = hashlib.blake2b(digest_size=20)
    state.update(json.dumps([_DECODING, what, numbers, tower, *options], sort_keys=True).encode() + b"\0")
    state.update(data)
    return state.hexdigest()
