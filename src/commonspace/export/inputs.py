"""What sentence-transformers takes as one input, as a content: strings, pictures, arrays, mappings, chat messages.

A string that names a file of a medium is that medium, as sentence-transformers has it; URLs are never fetched.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image as PILImage

from commonspace.content import Audio, Content, Document, Image, Part, Text, Video
from commonspace.errors import ContentError

_FILES: dict[type[Image | Audio | Video], tuple[str, ...]] = {
    Image: (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tiff", ".webp"),
    Audio: (".mp3", ".wav", ".ogg", ".flac", ".aac"),
    Video: (".mp4", ".avi", ".mov", ".wmv", ".flv", ".mkv", ".webm"),
}
_FPS = 24.0  # of frames that come without: what transformers' video processors take then
_CHANNELS = (1, 3, 4)
_URL = ("http://", "https://", "ftp://")
_KEYS = ("url", "path", "base64", "data")  # where a part of a message may have its medium, beside its own name


def content_of(value: Any, rate: int, prompt: str | None = None) -> Content:
    """One input as a content; a `Content` is taken as it is.

    `rate` in Hz is that of arrays of samples that come without. `prompt` stands before a content of text alone, as task
    prefixes do; media, and texts beside media, take none. Raises ContentError that says what was not understood.
    """
    content = value if isinstance(value, Content) else Content(*_parts(value, rate))
    if prompt and content.is_text:
        first, *rest = content.parts
        return Content(Text(prompt + first.text), *rest)
    return content


def _parts(value: Any, rate: int) -> list[Part]:
    if isinstance(value, str):
        return [_string(value)]
    if isinstance(value, (Text, Image, Audio, Video, Document)):
        return [value]
    if isinstance(value, Mapping):
        return _mapping(value, rate)
    if isinstance(value, Sequence) and value and all(_is_message(one) for one in value):
        return [part for message in value for part in _message(message, rate)]
    return [_medium(value, rate)]


def _string(text: str) -> Part:
    """A text, or the medium that it names; what looks like one on the network is refused, not read as words."""
    if text.startswith("data:image/"):
        return Image(_decoded(text), name="data URI")
    words = text.lower()
    if words.startswith(_URL) and " " not in text:
        if any(words.partition("?")[0].endswith(endings) for endings in _FILES.values()):
            raise ContentError(f"{text:.80}: no URL is fetched; download the file and give its path")
        return Text(text)
    for kind, endings in _FILES.items():
        if words.endswith(endings) and Path(text).is_file():
            return kind(text)
    return Text(text)


def _mapping(value: Mapping[str, Any], rate: int) -> list[Part]:
    """{"text": ..., "image": ...} in the order of its keys, one message, or an array with what belongs to it."""
    if _is_message(value):
        return _message(value, rate)
    if "array" in value:
        return [_wrapped(value, rate)]
    unknown = set(value) - set(_MODALITIES)
    if unknown or not value:
        raise ContentError(
            f"an input with the keys {sorted(map(str, value))}; use {', '.join(_MODALITIES)}, or a message of role and "
            "content"
        )
    return [part for kind, one in value.items() for part in _named(kind, one, rate)]


def _named(kind: str, value: Any, rate: int) -> list[Part]:
    """The parts of one modality: one, or each of a list."""
    is_frames = kind == "video" and isinstance(value, (list, tuple)) and all(_is_picture(one) for one in value)
    if isinstance(value, (list, tuple)) and not is_frames and kind != "document":
        return [part for one in value for part in _named(kind, one, rate)]
    return [_MODALITIES[kind](value, rate)]


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and {"role", "content"} <= set(value)


def _message(message: Mapping[str, Any], rate: int) -> list[Part]:
    """The content of a chat message in its order; the role says nothing to an embedding."""
    content = message["content"]
    if isinstance(content, str):
        return [Text(content)]
    parts: list[Part] = []
    for item in content:
        kind = item.get("type") if isinstance(item, Mapping) else None
        if kind not in _MODALITIES:
            raise ContentError(f"{item!r:.120}: a part of a message has a type, one of {', '.join(_MODALITIES)}")
        key = next((name for name in (kind, *_KEYS) if name in item), None)
        if key is None:
            raise ContentError(f"{item!r:.120}: a part of a message has its {kind} under {kind!r}")
        value = _decoded(item[key]) if key == "base64" else item[key]
        parts += _named(kind, value, rate)
    return parts


def _text(value: Any, rate: int) -> Part:
    return Text(value)


def _image(value: Any, rate: int) -> Part:
    if isinstance(value, (str, Path)):
        return _file(Image, value)
    if isinstance(value, (bytes, PILImage)):
        return Image(value)
    return Image(_channels_last(_array(value), 3))


def _audio(value: Any, rate: int) -> Part:
    if isinstance(value, (str, Path)):
        return _file(Audio, value)
    if isinstance(value, bytes):
        return Audio(value)
    if isinstance(value, Mapping):
        return _wrapped(value, rate)
    if hasattr(value, "get_all_samples"):  # a decoder of torchcodec
        samples = value.get_all_samples()
        return Audio(_array(samples.data), rate=samples.sample_rate)
    return Audio(_array(value), rate=rate)


def _video(value: Any, rate: int) -> Part:
    if isinstance(value, (str, Path)):
        return _file(Video, value)
    if isinstance(value, bytes):
        return Video(value)
    if isinstance(value, Mapping):
        return _wrapped(value, rate)
    if hasattr(value, "get_frames_in_range"):  # a decoder of torchcodec
        frames = value.get_frames_in_range(0, len(value)).data
        return Video(_channels_last(_array(frames), 4), fps=float(value.metadata.average_fps))
    return _frames(value, None)


def _document(value: Any, rate: int) -> Part:
    """Texts and images in reading order."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return Document(*(one if isinstance(one, str) else _image(one, rate) for one in items))


_MODALITIES: dict[str, Callable[[Any, int], Part]] = {
    "text": _text,
    "image": _image,
    "audio": _audio,
    "video": _video,
    "document": _document,
}


def _wrapped(value: Mapping[str, Any], rate: int) -> Part:
    """{"array", "sampling_rate"} is a sound, {"array", "video_metadata"} a clip."""
    if "sampling_rate" in value:
        return Audio(_array(value["array"]), rate=int(value["sampling_rate"]))
    if "video_metadata" in value:
        return _frames(value["array"], value["video_metadata"])
    if "array" in value:
        raise ContentError("an array needs its sampling_rate (a sound) or video_metadata (a clip) beside it")
    raise ContentError(
        f"a medium with the keys {sorted(map(str, value))}; use array and sampling_rate or video_metadata"
    )


def _frames(value: Any, metadata: Any) -> Video:
    told = metadata if isinstance(metadata, Mapping) else vars(metadata) if metadata is not None else {}
    values = np.stack([_rgb(one) for one in value]) if isinstance(value, (list, tuple)) else _array(value)
    return Video(_channels_last(values, 4), fps=float(told.get("fps") or _FPS))


def _medium(value: Any, rate: int) -> Part:
    """By its type and number of axes, as sentence-transformers tells media apart."""
    if isinstance(value, PILImage):
        return Image(value)
    if hasattr(value, "get_all_samples"):
        return _audio(value, rate)
    if hasattr(value, "get_frames_in_range"):
        return _video(value, rate)
    axes = getattr(value, "ndim", 0)
    kind = {1: _audio, 2: _audio, 3: _image, 4: _video}.get(axes)
    if kind is None:
        raise ContentError(
            f"an input of type {type(value).__name__}; use a str, a PIL image, an array, a mapping of modalities, chat "
            "messages or a commonspace Content"
        )
    return kind(value, rate)


def _file(kind: type[Image | Audio | Video], value: str | Path) -> Part:
    text = str(value)
    if text.startswith("data:"):
        return kind(_decoded(text), name="data URI")
    if text.lower().startswith(_URL):
        raise ContentError(f"{text:.80}: no URL is fetched; download the file and give its path")
    return kind(text)


def _decoded(text: str) -> bytes:
    """The bytes of base64, of a data URI or bare."""
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ContentError(f"{text[:40]!r}: is no base64 ({error})") from error


def _is_picture(value: Any) -> bool:
    return isinstance(value, PILImage) or getattr(value, "ndim", 0) == 3


def _rgb(value: Any) -> np.ndarray:
    return np.asarray(value.convert("RGB")) if isinstance(value, PILImage) else _channels_last(_array(value), 3)


def _array(value: Any) -> np.ndarray:
    """An array of an array or tensor, wherever that lies."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _channels_last(values: np.ndarray, axes: int) -> np.ndarray:
    """Pixels [..., height, width, channels] also of [..., channels, height, width]."""
    first_channels = values.ndim == axes and values.shape[-3] in _CHANNELS and values.shape[-1] not in _CHANNELS
    return np.moveaxis(values, -3, -1) if first_channels else values
