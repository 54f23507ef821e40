"""A content to pieces in the layout of a pretrained multimodal transformer: its own marks, patches and order.

    [before] text ... <|vision_start|> image <|vision_end|> ... <|audio_start|> sound <|audio_end|> ... [after]

A clip is one medium, its soundtrack interleaved as the model's own processor does it; of Qwen3-VL each step of two
frames stands between marks of its own, after its time as a text. A document is its parts, without marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import torch

from commonspace.content import Audio, Content, Image, Text, Video
from commonspace.errors import ConfigError, ContentError
from commonspace.processing.document import Opened, Sheets
from commonspace.processing.media import FeatureRequest
from commonspace.processing.native_layout import NativeLayout
from commonspace.processing.native_media import Clip, NativeReader
from commonspace.processing.native_preprocessing import NativePreprocessing
from commonspace.processing.pdf import Page
from commonspace.processing.pieces import Piece
from commonspace.processing.processor import Group, OnLimit, Processor, text_piece
from commonspace.processing.text import TextTokenizer

SPECIAL = re.compile(r"(<\|[^<>|]+\|>)")


class NativeProcessor(Processor):
    """As `Processor`; media are never cut to keep a limit, but left out from the first that does not fit.

    Names of the model's own special tokens inside a text are text: the tokenizer is told so.
    """

    preprocessing: NativePreprocessing
    reader: ClassVar[type[NativeReader]] = NativeReader

    def __init__(
        self,
        preprocessing: NativePreprocessing,
        tokenizer: TextTokenizer,
        layout: NativeLayout,
        on_limit: OnLimit = "error",
    ) -> None:
        super().__init__(preprocessing, tokenizer, on_limit=on_limit)
        self.layout = layout
        self.tokenizer.tokenizer.encode_special_tokens = True
        self._reader = self.reader(preprocessing, layout, cut=on_limit == "truncate")
        self._before, self._after = self._around("before"), self._around("after")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.tokenizer.tokenizer.encode_special_tokens = True  # which a copied or pickled tokenizer forgets

    def with_numbers(self, **numbers: float) -> NativeProcessor:
        return type(self)(replace(self.preprocessing, **numbers), self.tokenizer, self.layout, self.on_limit)

    def renewed(self, on_limit: OnLimit) -> NativeProcessor:
        return type(self)(self.preprocessing, self.tokenizer, self.layout, on_limit)

    def requests(self, content: Content) -> Iterator[FeatureRequest]:
        """ConfigError: the towers belong to the model, and what they give is not kept."""
        raise ConfigError("outputs of a model's own towers are not kept as features; set data.features=false")

    @property
    def _specials(self) -> int:
        return super()._specials + len(self._before) + len(self._after)

    def _around(self, name: str) -> list[int]:
        """Ids of what stands before or after every content: its special tokens are tokens, unlike those in a text."""
        ids: list[int] = []
        for part in filter(None, SPECIAL.split(getattr(self.preprocessing, name))):
            if not SPECIAL.fullmatch(part):
                ids += self.tokenizer.ids(part)
                continue
            found = self.tokenizer.tokenizer.token_to_id(part)
            if found is None or found in self.layout.placeholders.values():
                why = "stands for media" if found is not None else "is no token of this model's tokenizer"
                raise ConfigError(f"model.{name}: {part} {why}; name one that the model was trained with")
            ids.append(found)
        return ids

    def _between_specials(self, pieces: list[Piece]) -> tuple[Piece, ...]:
        before, after = ([text_piece(ids, "special")] if ids else [] for ids in (self._before, self._after))
        return super()._between_specials([*before, *pieces, *after])

    def _part(self, part: Opened) -> list[Piece | Group]:
        if isinstance(part, Text):
            return self._text(part.text)
        if isinstance(part, Audio):
            return [self._between("audio", self._reader.audio(part))]
        if isinstance(part, Video):
            return self._clip(part)
        if isinstance(part, Sheets):
            return [node for sheet in part.inner for node in self._sheet(sheet)]
        return [self._image(part, 0)]

    def _image(self, part: Image | Page, grid: int) -> Group:
        return self._between("image", self._reader.image(part))

    def _clip(self, part: Video) -> list[Piece | Group]:
        clip, mel_MT = self._reader.clip(part), self._reader.soundtrack(part)
        if self.layout.stamped:
            return self._stamped(clip)
        per, steps = self._reader.tokens(clip.frames_F3HW), -(-len(clip.frames_F3HW) // self.layout.frames_per_step)
        if mel_MT is None:
            return [self._between("video", Piece("image", clip.frames_F3HW, per * steps, step=clip.step))]
        seconds = clip.step * self.layout.frames_per_step
        runs = self.layout.interleaved(steps, per, seconds, self._reader.sound_tokens(mel_MT))
        return [self._between("sounding", *_shared_out(runs, clip, mel_MT))]

    def _stamped(self, clip: Clip) -> list[Piece | Group]:
        """Each step with its time before it, the middle of its frames' own."""
        nodes: list[Piece | Group] = []
        size = self.layout.frames_per_step
        for start in range(0, len(clip.seconds), size):
            times = clip.seconds[start : start + size]
            stamp = f"<{(times[0] + times[-1]) / 2:.1f} seconds>"
            frames_F3HW = clip.frames_F3HW[start : start + size]
            step = Piece("image", frames_F3HW, self._reader.tokens(frames_F3HW), step=clip.step)
            nodes.append(Group("", (text_piece(self.tokenizer.ids(stamp)), self._between("video", step))))
        return nodes

    def _between(self, kind: str, *pieces: Piece) -> Group:
        """Pieces between the model's own marks, never cut apart."""
        before, after = (Piece("mark", torch.tensor(ids), len(ids)) for ids in self.layout.marks[kind])
        return Group("", (before, *pieces, after))

    def _text(self, text: str, label: str = "") -> list[Piece]:
        pieces = super()._text(text, label)
        reserved = set(self.layout.placeholders.values())
        if any(reserved & set(piece.value.tolist()) for piece in pieces):
            raise ContentError(
                f"{label}text {text[:40]!r}: names a token that stands for media, which its tokenizer does not take as "
                "text; leave it out"
            )
        return pieces


def _shared_out(runs: list[tuple[str, int]], clip: Clip, mel_MT: torch.Tensor) -> Iterator[Piece]:
    """Runs of a clip and its soundtrack as pieces that share the two values; `rows` counts each one's tokens."""
    done = {"video": 0, "audio": 0}
    for kind, count in runs:
        rows = (done[kind], done[kind] + count)
        done[kind] += count
        if kind == "video":
            yield Piece("image", clip.frames_F3HW, count, rows=rows, step=clip.step)
        else:
            yield Piece("audio", mel_MT, count, rows=rows)
