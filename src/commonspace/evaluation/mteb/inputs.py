"""Rows of an mteb loader as contents.

Media keep the bytes that the data set holds and are decoded by our own processing: neither torchcodec nor torchaudio is
asked, a cache of features finds its keys, and a file that mteb would resample first is resampled once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL.Image import Image as PILImage

from commonspace.content import Audio, Content, Image, Text, Video
from commonspace.errors import DataError

# Parts of one row, in this order: media before the words about them, as our own tasks have it.
COLUMNS = ("image", "video", "audio", "text")
_MEDIA = COLUMNS[:3]
_ROWS = 256  # read at once: a data set of videos does not fit in memory


@dataclass(frozen=True)
class Row:
    """One input: its content and, of a document of text alone, what stands before and in it.

    `body` is the text without the title, where mteb joined the two in `content`.
    """

    content: Content
    title: str | None = None
    body: str | None = None


def rows_of(inputs: Any) -> Iterator[Row]:
    """Every row of a `DataLoader[BatchedInput]`, in order.

    A `datasets.Dataset` behind the loader is read without decoding its media; of another one the loader's own batches
    are taken. Raises DataError for a row that has none of the four columns.
    """
    data = inputs.dataset
    batches = _undecoded_batches(data) if hasattr(data, "cast_column") else iter(inputs)
    start = 0
    for batch in batches:
        count = len(next(iter(batch.values())))
        for index in range(count):
            yield _row({name: values[index] for name, values in batch.items()}, start + index)
        start += count


def _undecoded_batches(data: Any) -> Iterator[Mapping[str, Sequence[Any]]]:
    for name, feature in data.features.items():
        if name in _MEDIA and getattr(feature, "decode", False):
            data = data.cast_column(name, replace(feature, decode=False))
    for start in range(0, len(data), _ROWS):
        yield data[start : start + _ROWS]


def _row(values: Mapping[str, Any], number: int) -> Row:
    readers = {"image": _image, "video": _video, "audio": _audio, "text": Text}
    has_media = any(values.get(name) is not None for name in _MEDIA)
    parts = [
        readers[name](values[name])
        for name in COLUMNS
        if values.get(name) is not None and not (name == "text" and has_media and not values[name])
    ]
    if not parts:
        raise DataError(
            f"row {number} of the mteb task has no {', '.join(COLUMNS)}, only {sorted(values)}: the task's metadata "
            "and its data set do not fit together"
        )
    if has_media:
        return Row(Content(*parts))
    return Row(Content(*parts), values.get("title") or None, values.get("body"))


def _stored(value: Any) -> tuple[bytes | str, str | None] | None:
    """(bytes or path, name) of a medium that was not decoded, or that still knows what it was decoded from."""
    kept = value if isinstance(value, Mapping) else getattr(value, "_hf_encoded", None)
    if not kept or "array" in kept:
        return None
    return (kept["bytes"] if kept.get("bytes") is not None else kept["path"]), kept.get("path")


def _image(value: Any) -> Image:
    if isinstance(value, PILImage):
        return Image(value)
    if (stored := _stored(value)) is not None:
        return Image(stored[0], name=stored[1])
    values = np.asarray(value)  # a tensor [channels, height, width]
    return Image(np.ascontiguousarray(np.moveaxis(values, 0, -1)) if values.shape[0] in (1, 3, 4) else values)


def _audio(value: Any) -> Audio:
    if (stored := _stored(value)) is not None:
        return Audio(stored[0], name=stored[1])
    if isinstance(value, Mapping):
        return Audio(np.asarray(value["array"]), rate=int(value["sampling_rate"]))
    samples = value.get_all_samples()  # a decoder that forgot its file
    return Audio(samples.data.numpy(), rate=int(samples.sample_rate))


def _video(value: Any) -> Video:
    """The picture alone: mteb gives a soundtrack as an audio column, where a task has one."""
    if (stored := _stored(value)) is not None:
        return Video(stored[0], name=stored[1], sound=False)
    if isinstance(value, torch.Tensor):
        raise DataError("a video of frames without their rate cannot be sampled in time; give the task its files")
    frames = value.get_frames_in_range(0, value.metadata.num_frames)
    shown = frames.data.permute(0, 2, 3, 1).contiguous().numpy()
    return Video(shown, fps=float(value.metadata.average_fps), sound=False)
