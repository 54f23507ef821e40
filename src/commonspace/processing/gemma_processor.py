"""A content to pieces in the layout of EmbeddingGemma 2, between the tokenizer's own start and end.

    text ... <boi> image <eoi> ... <boa> sound <eoa> ... <boi> frame <eoi> <boi> frame <eoi> ...
    00:00 <boi> frame <eoi> 00:00 <boa> its second of sound <eoa> 00:01 <boi> frame <eoi> ...

A clip without sound is its frames, and with a soundtrack one medium that is never cut apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from commonspace.content import Video
from commonspace.processing.gemma_layout import GemmaLayout
from commonspace.processing.gemma_media import GemmaReader
from commonspace.processing.gemma_preprocessing import GemmaPreprocessing
from commonspace.processing.native_processor import NativeProcessor
from commonspace.processing.pieces import Piece
from commonspace.processing.processor import Group, text_piece


class GemmaProcessor(NativeProcessor):
    """As `NativeProcessor`."""

    preprocessing: GemmaPreprocessing
    layout: GemmaLayout
    reader = GemmaReader

    def _clip(self, part: Video) -> list[Piece | Group]:
        clip, mel_MT = self._reader.clip(part), self._reader.soundtrack(part)
        runs = self.layout.runs(
            clip.seconds,
            self._reader.length(part),
            self._reader.tokens(clip.frames_F3HW),
            0 if mel_MT is None else mel_MT.shape[1],
            stamped=self.preprocessing.video_timestamps,
        )
        nodes = list(self._blocks(runs, clip.frames_F3HW, clip.step, mel_MT))
        return nodes if mel_MT is None else [Group("", tuple(nodes))]

    def _blocks(
        self, runs: list[tuple[str, Any]], frames_F3HW: torch.Tensor, step: float, mel_MT: torch.Tensor | None
    ) -> Iterator[Group]:
        """Each frame and each stretch of sound between its marks, a stamp before it."""
        frames, heard = iter(frames_F3HW.split(1)), 0
        before: tuple[Piece, ...] = ()
        for kind, run in runs:
            if kind == "text":
                before = (text_piece(self.tokenizer.ids(run)),)
                continue
            if kind == "video":
                piece = Piece("image", next(frames), run, step=step)
            else:
                piece = Piece("audio", mel_MT, run, rows=(heard, heard + run))
                heard += run
            yield Group("", (*before, self._between(kind, piece)))
            before = ()
