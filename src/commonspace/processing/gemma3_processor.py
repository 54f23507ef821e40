"""A content to pieces in the layout of Gemma 3 with its vision tower: squares of one size, each between blank lines.

    text ... <blank line> <boi> image <eoi> <blank line> ... text

transformers has no clips for it: here a clip is its frames, each an image. It does not hear.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from PIL import Image as pil

from commonspace.content import Video
from commonspace.processing.image import Fit
from commonspace.processing.native_media import NativeReader, scaled
from commonspace.processing.native_preprocessing import NativePreprocessing
from commonspace.processing.native_processor import NativeProcessor
from commonspace.processing.pieces import Piece
from commonspace.processing.processor import Group, text_piece
from commonspace.processing.video import timestamp

_BLANK = "\n\n"


@dataclass(frozen=True)
class Gemma3Preprocessing(NativePreprocessing):
    """As `NativePreprocessing`, but every picture is a square of the size that the pretrained model was made for.

    video_timestamps   a text such as 00:03 before each frame: when it is shown, counted from the first
    """

    video_max_frames: int = 8

    unused: ClassVar[tuple[str, ...]] = (
        "image_size", "image_patch", "image_grid", "document_grid", "frame_grid", "image_min_tokens",
        "image_max_tokens", "frame_min_tokens", "frame_max_tokens", "audio_rate", "audio_mels", "audio_fft",
        "audio_hop", "audio_frames_per_row", "audio_merge", "max_audio_seconds",
    )  # fmt: skip


class Gemma3Reader(NativeReader):
    """As `NativeReader`; the aspect of a picture is not kept, as the model's own processor does not keep it."""

    def fit(self, kind: Literal["image", "frame"]) -> Fit:
        side = self.layout.square

        def square(picture: pil.Image) -> torch.Tensor:
            return scaled(picture, [side, side], "bilinear")

        return square


class Gemma3Processor(NativeProcessor):
    """As `NativeProcessor`. Text parts, and the blank lines around images, are tokenised each by itself."""

    preprocessing: Gemma3Preprocessing
    reader = Gemma3Reader

    def _clip(self, part: Video) -> list[Piece | Group]:
        clip = self._reader.clip(part)
        self._reader.hears(part)  # says what is left out
        nodes: list[Piece | Group] = []
        for frame_3HW, seconds in zip(clip.frames_F3HW, clip.seconds, strict=True):
            frame = Piece("image", frame_3HW, self._reader.tokens(frame_3HW), step=clip.step)
            shown = self._between("image", frame)
            stamp = self.tokenizer.ids(timestamp(seconds)) if self.preprocessing.video_timestamps else []
            nodes.append(Group("", (text_piece(stamp), shown)) if stamp else shown)
        return nodes

    def _between(self, kind: str, *pieces: Piece) -> Group:
        blank = self.tokenizer.ids(_BLANK)
        before, after = self.layout.marks[kind]
        marks = [torch.tensor(ids) for ids in ([*blank, *before], [*after, *blank])]
        first, last = (Piece("mark", ids, len(ids)) for ids in marks)
        return Group("", (first, *pieces, last))
