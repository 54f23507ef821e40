"""Every number that turns a file into tensors, in one place: `preprocessing.json` of a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from commonspace.errors import ConfigError
from commonspace.prompts import PREFIXES

# Mel frames to a row of Whisper's tower: its second convolution takes two steps at once, then two frames are averaged.
FRAMES_PER_ROW = 4
# What folders say nothing of that were written before there was a choice.
_LATER = ("image_patch", "audio_frames_per_row", "before", "after")


@dataclass(frozen=True)
class Preprocessing:
    """Sizes, rates and limits; equal values give equal tensors for equal files.

    image_size          pixels a side; the aspect is kept by white padding to a square
    image_patch         None, or pixels a side of the vision tower's patch where that takes native aspects: then no
                        border is added, both sides are multiples of it, and patches are at most those of a square of
                        `image_size`
    image_grid          tokens a side of an image part (`document_grid` inside a document, `frame_grid` of a frame);
                        with `image_patch` its square is the most tokens, in a grid near the image's own aspect
    image_max_pixels    refused before decoding beyond that (decompression bombs)
    video_fps           frames a second, for clips with more frames of their own than `video_max_frames`; never fewer
                        than `video_min_frames`, never more than `video_max_frames` (then spread evenly)
    video_timestamps    a text such as 00:03 before each frame: when it is shown, counted from the first
    audio_rate, audio_mels, audio_fft, audio_hop   Whisper's log-mel; sounds are zero-padded to whole seconds
    audio_frames_per_row   mel frames to a row of the audio tower: 4 of Whisper's, a patch's of a ViT's. With the
                        defaults (100 frames a second) that is 25 rows a second
    audio_merge         rows of the audio tower that the connector makes one token of
    max_*               limits of one content: tokens in all, tokens of one text, images (those of documents too),
                        pages of its PDFs, seconds of a sound and of a video
    prefixes            {task: {role: text}} for contents of text alone
    """

    image_size: int = 224
    image_patch: int | None = None
    image_grid: int = 3
    document_grid: int = 3
    frame_grid: int = 2
    image_max_pixels: int = 50_000_000
    video_fps: float = 1.0
    video_min_frames: int = 4
    video_max_frames: int = 8
    video_timestamps: bool = False
    audio_rate: int = 16_000
    audio_mels: int = 80
    audio_fft: int = 400
    audio_hop: int = 160
    audio_frames_per_row: int = FRAMES_PER_ROW
    audio_merge: int = 2
    max_tokens: int = 512
    max_text_tokens: int = 512
    max_images: int = 6
    max_pages: int = 6
    max_audio_seconds: float = 180.0
    max_video_seconds: float = 120.0
    prefixes: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: PREFIXES)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if isinstance(item.default, bool):
                if not isinstance(value, bool):
                    raise ConfigError(f"preprocessing.{item.name}={value!r} must be true or false")
            elif isinstance(item.default, str):
                if not isinstance(value, str):
                    raise ConfigError(f"preprocessing.{item.name}={value!r} must be a text")
            elif item.name != "prefixes" and not (is_number and value > 0) and (value, item.default) != (None, None):
                raise ConfigError(f"preprocessing.{item.name}={value!r} must be a positive number")
        if self.image_patch is not None and self.image_size % self.image_patch:
            raise ConfigError(
                f"preprocessing.image_size={self.image_size} is no multiple of image_patch={self.image_patch}"
            )
        if self.video_min_frames > self.video_max_frames:
            raise ConfigError("preprocessing.video_min_frames is above video_max_frames")
        if self.max_text_tokens > self.max_tokens:
            raise ConfigError("preprocessing.max_text_tokens is above max_tokens, so it would have no effect")
        if self.audio_rate % self.audio_hop:
            raise ConfigError(
                f"preprocessing: a second of audio_rate={self.audio_rate} is no whole number of mel frames of "
                f"audio_hop={self.audio_hop} samples"
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Preprocessing:
        """With the numbers that a model's options name; options of other rooms are passed over."""
        return cls(**{item.name: options[item.name] for item in fields(cls) if item.name in options})

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Inverse of `to_json`; raises ConfigError where a field is missing or unknown."""
        known = {item.name for item in fields(cls)}
        value = {**{item.name: item.default for item in fields(cls) if item.name in _LATER}, **value}
        if set(value) != known:
            missing, unknown = sorted(known - set(value)), sorted(set(value) - known)
            raise ConfigError(f"preprocessing.json: missing {missing}, unknown {unknown}; write it with this version")
        return cls(**value)
