"""The numbers of EmbeddingGemma 2 with its own towers: one budget of tokens an image, and one a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from commonspace.processing.native_preprocessing import NativePreprocessing


@dataclass(frozen=True)
class GemmaPreprocessing(NativePreprocessing):
    """As `NativePreprocessing`, but every picture is scaled, up or down, to nearly as many tokens as its budget has.

    image_max_tokens, frame_max_tokens   the model was trained with 70, 140, 280, 560 and 1120
    video_timestamps                     a text such as 00:03 before each frame; where a soundtrack stands among the
                                         frames, the model's layout has one anyway

    How sounds are measured is the pretrained model's own, and stands in config.json of a model folder.
    """

    image_min_tokens: int = 1
    image_max_tokens: int = 280
    frame_min_tokens: int = 1
    frame_max_tokens: int = 70
    max_audio_seconds: float = 30.0

    unused: ClassVar[tuple[str, ...]] = (
        "image_size", "image_patch", "image_grid", "document_grid", "frame_grid", "image_min_tokens",
        "frame_min_tokens", "video_min_frames", "audio_mels", "audio_fft", "audio_hop", "audio_frames_per_row",
        "audio_merge",
    )  # fmt: skip
