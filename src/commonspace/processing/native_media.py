"""Media for backbones with towers of their own: pictures at the model's own patch size, clips whole, plain log-mel."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image as pil

from commonspace.content import Audio, Image, Video
from commonspace.errors import ContentError
from commonspace.processing.audio import Measure, read_audio
from commonspace.processing.image import Fit, read_image
from commonspace.processing.media import note
from commonspace.processing.native_layout import TICKS, NativeLayout
from commonspace.processing.native_preprocessing import NativePreprocessing
from commonspace.processing.pdf import Page, draw_page
from commonspace.processing.pieces import Piece
from commonspace.processing.video import Choose, frame_seconds, read_frames, read_soundtrack

_LONGEST = 200  # sides of a picture to one another; transformers refuses more
_DRAWN = 1.5  # a page or an SVG is drawn so much larger than a square of its budget, for its longer side


class Clip(NamedTuple):
    """Frames uint8 [F, 3, H, W], the second each is shown at, and the mean distance of two in whole ticks."""

    frames_F3HW: torch.Tensor
    seconds: list[float]
    step: float


class BudgetFit:
    """A picture to pixels uint8 [3, H, W]: H and W whole tokens, the aspect nearly kept, tokens within a budget.

    Later pictures take the first one's size: the frames of a clip are one tensor.
    """

    def __init__(self, token_pixels: int, least: int, most: int) -> None:
        self.token_pixels, self.least, self.most = token_pixels, least, most
        self.size: list[int] | None = None

    def __call__(self, picture: pil.Image) -> torch.Tensor:
        """The picture scaled as transformers' processors of these models do."""
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

        picture = _within_aspect(picture, min(_LONGEST, self.most))
        if self.size is None:
            area = self.token_pixels**2
            height, width = smart_resize(
                picture.height, picture.width, self.token_pixels, self.least * area, self.most * area
            )
            self.size = [height, width]
        return scaled(picture, self.size)


def scaled(picture: pil.Image, size: list[int], how: str = "bicubic") -> torch.Tensor:
    """Pixels uint8 [3, H, W] of a picture in a `size` of (H, W), with antialiasing, as transformers does."""
    from torchvision.transforms.v2 import InterpolationMode, functional

    pixels_3HW = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    if list(pixels_3HW.shape[1:]) == size:
        return pixels_3HW.contiguous()
    return functional.resize(pixels_3HW, size, interpolation=InterpolationMode(how), antialias=True)


class NativeReader:
    """Decodes media under one preprocessing and layout; what it cuts it says by `note`.

    measure, choose   how sounds become mel frames, and which frames of a clip are taken; None: as of other backbones
    """

    measure: Measure | None = None
    choose: Choose | None = None

    def __init__(self, preprocessing: NativePreprocessing, layout: NativeLayout, *, cut: bool) -> None:
        self.preprocessing = preprocessing
        self.layout = layout
        self.cut = cut

    def image(self, part: Image | Page) -> Piece:
        """One image, or page of a PDF."""
        numbers, fit = self.preprocessing, self.fit("image")
        drawn = math.ceil(_DRAWN * math.sqrt(numbers.image_max_tokens) * self.layout.token_pixels)
        if isinstance(part, Page):
            pixels_3HW = fit(draw_page(part, drawn, numbers.image_max_pixels))
        else:
            pixels_3HW = read_image(part, drawn, numbers.image_max_pixels, fit)
        return Piece("image", pixels_3HW, self.tokens(pixels_3HW))

    def clip(self, part: Video) -> Clip:
        """The frames of a clip."""
        numbers, choose = self.preprocessing, self.choose
        frames_F3HW, over = read_frames(part, numbers, cut=self.cut, fit=self.fit("frame"), choose=choose)
        if over:
            note(over)
        seconds = frame_seconds(part, numbers, cut=self.cut, choose=choose)[: len(frames_F3HW)]
        step = (seconds[-1] - seconds[0]) / max(1, len(seconds) - 1)
        return Clip(frames_F3HW, seconds, max(1, round(step * TICKS)) / TICKS)

    def audio(self, part: Audio) -> Piece:
        """A sound; ContentError for a model that does not hear."""
        if not self.layout.audio_tokens:
            raise ContentError(f"{part.label}: this model has no audio tower; use a model that hears, or leave it out")
        mel_MT, over = read_audio(part, self.preprocessing, cut=self.cut, measure=self.measure)
        if over:
            note(over)
        return Piece("audio", mel_MT, self.sound_tokens(mel_MT))

    def soundtrack(self, part: Video) -> torch.Tensor | None:
        """Log-mel [M, T] of a clip's sound; None where there is none, where it is not asked for, or not heard."""
        return read_soundtrack(part, self.preprocessing, self.measure) if self.hears(part) else None

    def hears(self, part: Video) -> bool:
        """Whether a clip's soundtrack is asked for and this model takes one; where it does not, that is said."""
        if not part.sound or isinstance(part.source, np.ndarray):
            return False
        if not self.layout.audio_tokens:
            note(f"{part.label}: its soundtrack is left out, this model does not hear")
        return self.layout.audio_tokens > 0

    def fit(self, kind: Literal["image", "frame"]) -> Fit:
        """What scales an image, or the frames of one clip, into its budget of tokens."""
        numbers = self.preprocessing
        least, most = (getattr(numbers, f"{kind}_{end}_tokens") for end in ("min", "max"))
        return BudgetFit(self.layout.token_pixels, least, most)

    def tokens(self, pixels: torch.Tensor) -> int:
        """Of one picture, or of one step of a clip: pixels [..., H, W]."""
        height, width = pixels.shape[-2:]
        return (height // self.layout.token_pixels) * (width // self.layout.token_pixels)

    def sound_tokens(self, mel_MT: torch.Tensor) -> int:
        """Of a sound; it is whole seconds long."""
        frames = self.preprocessing.audio_rate // self.preprocessing.audio_hop
        return mel_MT.shape[1] * self.layout.audio_tokens // frames


def _within_aspect(picture: pil.Image, longest: int) -> pil.Image:
    """The picture between white borders where its sides are further apart: one row of tokens would pass the budget."""
    shortest = math.ceil(max(picture.size) / longest)
    if min(picture.size) >= shortest:
        return picture
    width, height = (max(side, shortest) for side in picture.size)
    wide = pil.new("RGB", (width, height), (255, 255, 255))
    wide.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return wide
