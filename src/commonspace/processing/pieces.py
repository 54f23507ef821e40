"""What processing hands to a model: a content as a flat, ordered list of pieces.

Only three things ever reach a tower: token ids, pixels, mel frames. Everything else (video, document) is an order
of these with marks around them. Features already computed by a frozen tower may stand in for pixels or mel frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

Kind = Literal["text", "image", "audio", "mark", "special"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MEDIA = ("image", "audio")
# Learned begin and end marks; a piece of kind "mark" holds an index into this tuple.
MARKS = (
    "begin_image", "end_image",
    "begin_audio", "end_audio",
    "begin_video", "end_video",
    "begin_document", "end_document",
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A run of tokens of one kind.

    kind    "special" is the tokenizer's start or end where no text stands beside it.
    value   text and special: int64 [L] token ids; image: uint8 [3, H, W] pixels, or [F, 3, H, W] of a clip that the
            backbone takes whole; audio: float32 [M, T] log-mel frames; mark: int64 scalar, an index into `MARKS`, or
            [L] token ids where the backbone has marks of its own.
            With `is_feature` an image or audio value is the frozen tower's own output, [tokens, width].
    grid    rows and columns of an image's tokens where it keeps its native aspect; None: a square.
    tokens  how many tokens the backbone will see (what budgets and length buckets count).
    rows    of an audio value not yet encoded: first row of the tower's output that this piece stands for, and the row
            after its last. A video's soundtrack is encoded once and as a whole (its pieces share one value), then
            shared out among the frames. None means all rows. Of a medium that a native backbone interleaves: tokens.
    step    of a clip: seconds from one frame to the next.
    """

    kind: Kind
    value: torch.Tensor
    tokens: int
    is_feature: bool = False
    rows: tuple[int, int] | None = None
    grid: tuple[int, int] | None = None
    step: float = 0.0


@dataclass(frozen=True)
class Pieces:
    """One content, processed: its pieces in order, and the sum of their tokens.

    `truncated` says what was left out to keep a limit, where the processor may cut; empty when nothing was.
    """

    pieces: tuple[Piece, ...]
    truncated: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        return sum(piece.tokens for piece in self.pieces)

    @property
    def is_text(self) -> bool:
        """Whether no medium is among the pieces."""
        return not any(piece.kind in _MEDIA for piece in self.pieces)

    @property
    def tokens_by_modality(self) -> dict[str, int]:
        """Tokens of text, image, audio and video, of those that are here; a clip's frames are video, its sound audio.

        Marks and the tokenizer's start and end are none of them, and are what `tokens` has beyond their sum.
        """
        found: dict[str, int] = {}
        in_video = False
        for piece in self.pieces:
            if piece.kind == "mark" and not piece.value.ndim:
                mark = MARKS[int(piece.value)]
                in_video = mark == "begin_video" or (in_video and mark != "end_video")
            elif piece.kind in ("text", *_MEDIA):
                kind = "video" if piece.kind == "image" and (in_video or piece.step) else piece.kind
                found[kind] = found.get(kind, 0) + piece.tokens
        return found

    @property
    def modalities(self) -> frozenset[str]:
        """Which of text, image, audio and video are among the pieces."""
        return frozenset(self.tokens_by_modality or {"text"})  # a text of no words is its start and end

    @property
    def text_share(self) -> float:
        """The share of text among the tokens of text and media, in 0..1; 1 where there is no medium."""
        media = sum(piece.tokens for piece in self.pieces if piece.kind in _MEDIA)
        text = sum(piece.tokens for piece in self.pieces if piece.kind == "text")
        return text / (text + media) if media else 1.0
