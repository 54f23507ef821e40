"""Media for EmbeddingGemma 2's own towers, as its processors in transformers have them.

A picture is scaled to nearly its budget of tokens, frames are those its video processor takes, and sounds are measured
by its own feature extractor, to their last whole frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image as pil

from commonspace.content import Video
from commonspace.errors import ConfigError
from commonspace.processing.gemma_layout import GemmaLayout, frames_of
from commonspace.processing.gemma_preprocessing import GemmaPreprocessing
from commonspace.processing.image import Fit
from commonspace.processing.media import note
from commonspace.processing.native_media import NativeReader, scaled
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.video import clip_seconds, read_soundtrack


class PooledFit:
    """A picture to pixels uint8 [3, H, W] of whole tokens, the most within a budget that nearly keep its aspect.

    Later pictures take the first one's size: the frames of a clip have as many tokens each.
    """

    def __init__(self, patch: int, pooled: int, most: int) -> None:
        """`patch` pixels a side of a patch, `pooled` patches a side of a token, at most `most` tokens."""
        self.patch, self.pooled, self.most = patch, pooled, most
        self.size: list[int] | None = None

    def __call__(self, picture: pil.Image) -> torch.Tensor:
        """The picture, scaled up or down as the model's own processors do."""
        from transformers.models.gemma4.image_processing_gemma4 import get_aspect_ratio_preserving_size

        if self.size is None:
            patches = self.most * self.pooled**2
            size = get_aspect_ratio_preserving_size(picture.height, picture.width, self.patch, patches, self.pooled)
            self.size = list(size)
        return scaled(picture, self.size)


class GemmaMeasure:
    """Log-mel float32 [M, T] of samples [n], by the model's own feature extractor."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        import transformers

        self.extractor = transformers.Gemma4AudioFeatureExtractor(**options)
        self.least = frames_of(options)["frame_length"] + 1  # samples of one frame

    def __call__(self, samples: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
        """Whole frames alone: what a sound has beyond them is left out. Shorter ones are padded with silence."""
        samples = torch.nn.functional.pad(samples, (0, max(0, self.least - len(samples))))
        made = self.extractor([samples.numpy()], truncation=False, max_length=None)
        mel_TM, whole_T = made["input_features"][0], made["input_features_mask"][0]
        return torch.from_numpy(np.ascontiguousarray(mel_TM[whole_T].T))


def own_frames(count: int, seconds: float, preprocessing: Preprocessing) -> list[int]:
    """Which of `count` frames of a clip of `seconds` the model's own video processor takes.

    `video_fps` a second from the first on, also of a short clip; of more than `video_max_frames` as many of them,
    evenly.
    """
    import transformers
    from transformers.video_utils import VideoMetadata

    seconds = max(round(seconds, 6), 1e-6)
    shown = VideoMetadata(total_num_frames=count, fps=round(count / seconds, 6), duration=seconds)
    asked = object.__new__(transformers.EmbeddingGemma2VideoProcessor)
    fps, most = preprocessing.video_fps, preprocessing.video_max_frames
    return asked.sample_frames(shown, fps=fps, max_frames=most, overflow_strategy="uniform").tolist()


class GemmaReader(NativeReader):
    """As `NativeReader`; a soundtrack is taken to `max_audio_seconds`, and where that cuts it, it is said."""

    preprocessing: GemmaPreprocessing
    layout: GemmaLayout
    choose = staticmethod(own_frames)

    def __init__(self, preprocessing: GemmaPreprocessing, layout: GemmaLayout, *, cut: bool) -> None:
        super().__init__(preprocessing, layout, cut=cut)
        if layout.sound:
            if layout.sound["sampling_rate"] != preprocessing.audio_rate:
                raise ConfigError(
                    f"preprocessing.audio_rate={preprocessing.audio_rate}: this model hears "
                    f"{layout.sound['sampling_rate']} samples a second"
                )
            self.measure = GemmaMeasure(layout.sound)

    def soundtrack(self, part: Video) -> torch.Tensor | None:
        if not self.hears(part):
            return None
        numbers = self.preprocessing
        most = min(numbers.max_audio_seconds, numbers.max_video_seconds)
        mel_MT = read_soundtrack(part, replace(numbers, max_video_seconds=most), self.measure)
        if mel_MT is not None and (length := self.length(part)) > most:
            note(f"{part.label}: its soundtrack is cut from {length:.1f} to {most:g} s")
        return mel_MT

    def length(self, part: Video) -> float:
        """Seconds of a clip that are taken."""
        return clip_seconds(part, self.preprocessing)

    def fit(self, kind: Literal["image", "frame"]) -> Fit:
        layout, most = self.layout, getattr(self.preprocessing, f"{kind}_max_tokens")
        return PooledFit(layout.patch, layout.token_pixels // layout.patch, most)

    def sound_tokens(self, mel_MT: torch.Tensor) -> int:
        return self.layout.sound_tokens(mel_MT.shape[1])
