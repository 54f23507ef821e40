"""Pieces of a batch as the inputs of a pretrained multimodal transformer: token ids, patches, mel frames, positions.

Legend: B contents, L tokens, S tokens of one segment, F frames, M mel bins, T mel frames, P patches, C numbers a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from commonspace.processing.native_layout import NativeLayout
from commonspace.processing.pieces import KINDS, Piece, Pieces


@dataclass(frozen=True)
class Patches:
    """How a vision tower takes pixels."""

    size: int
    merge: int
    frames: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def grid(self, pixels: torch.Tensor) -> tuple[int, int, int]:
        """(steps, rows, columns) of the patches of pixels [3, H, W] or [F, 3, H, W]."""
        frames = 1 if pixels.ndim == 3 else len(pixels)
        return -(-frames // self.frames), pixels.shape[-2] // self.size, pixels.shape[-1] // self.size

    def of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised patches [P, C] of uint8 pixels; the last frame stands twice where a step lacks one."""
        mean, std = (255 * torch.tensor(one, device=pixels.device).view(3, 1, 1) for one in (self.mean, self.std))
        frames_1F3HW = ((pixels.float() - mean) / std).reshape(1, -1, *pixels.shape[-3:])
        return _patchify()(frames_1F3HW, self.size, self.merge, self.frames)[0][0]


@dataclass
class Segment:
    """Tokens whose positions are counted together: a text, or a medium between its marks."""

    ids_S: torch.Tensor
    images: list[tuple[int, int, int]] = field(default_factory=list)
    clips: list[tuple[int, int, int]] = field(default_factory=list)
    sounds: list[int] = field(default_factory=list)  # mel frames
    step_seconds: float = 0.0

    @property
    def is_text(self) -> bool:
        """Whether positions are plain counting."""
        return not (self.images or self.clips or self.sounds)


def model_inputs(
    batch: Sequence[Pieces],
    layout: NativeLayout,
    patches: Patches,
    positions: Callable[[Segment], torch.Tensor],
    device: torch.device,
) -> tuple[dict[str, Any], torch.Tensor]:
    """Keyword arguments of the transformer, and kind_BL: index into `KINDS`, below 0 at padding, which comes last.

    `positions` gives those of one segment, [3, S], counted from 0.
    """
    made = [[_segment(run, layout, patches) for run in _segments(pieces)] for pieces in batch]
    position_3L = [_joined([positions(segment) for segment in content]) for content in made]
    inputs, kind_BL = token_inputs(batch, layout, device)
    inputs["position_ids"] = pad_sequence([p.T for p in position_3L], batch_first=True).permute(2, 0, 1).to(device)
    return {**inputs, **_media(batch, patches, device)}, kind_BL


def token_inputs(
    batch: Sequence[Pieces], layout: NativeLayout, device: torch.device
) -> tuple[dict[str, Any], torch.Tensor]:
    """`input_ids` [B, L] and `attention_mask` (None without padding), and kind_BL as of `model_inputs`."""
    ids = [torch.cat([_ids(piece, layout) for piece in pieces.pieces]) for pieces in batch]
    kinds = [torch.tensor([KINDS.index(p.kind) for p in c.pieces]).repeat_interleave(_counts(c)) for c in batch]
    kind_BL = pad_sequence(kinds, batch_first=True, padding_value=-1).to(device)
    mask_BL = kind_BL >= 0
    inputs: dict[str, Any] = {
        "input_ids": pad_sequence(ids, batch_first=True).to(device),
        "attention_mask": None if bool(mask_BL.all()) else mask_BL.long(),
    }
    return inputs, kind_BL


def first_media(batch: Sequence[Pieces], kind: str) -> list[Piece]:
    """The pieces of one kind of medium, each medium once, in the order its tokens stand in."""
    pieces = (piece for content in batch for piece in content.pieces if piece.kind == kind)
    return [piece for piece in pieces if piece.rows is None or piece.rows[0] == 0]


def _media(batch: Sequence[Pieces], patches: Patches, device: torch.device) -> dict[str, torch.Tensor]:
    """Every medium once, in the order its tokens stand in."""
    pixels, mels = ([piece.value.to(device) for piece in first_media(batch, kind)] for kind in ("image", "audio"))
    made: dict[str, torch.Tensor] = {}
    for axes, name, grid in ((3, "pixel_values", "image_grid_thw"), (4, "pixel_values_videos", "video_grid_thw")):
        if found := [value for value in pixels if value.ndim == axes]:
            made[name] = torch.cat([patches.of(value) for value in found])
            made[grid] = torch.tensor([patches.grid(value) for value in found], device=device)
    if mels:
        made["input_features"] = pad_sequence([mel_MT.T for mel_MT in mels], batch_first=True).transpose(1, 2)
        lengths = torch.tensor([mel_MT.shape[1] for mel_MT in mels], device=device)
        made["feature_attention_mask"] = (torch.arange(int(lengths.max()), device=device) < lengths[:, None]).long()
    return made


def _segments(pieces: Pieces) -> Iterator[list[Piece]]:
    """Runs of pieces: what stands from one mark to the next with both, and what stands between those."""
    run: list[Piece] = []
    inside = False
    for piece in pieces.pieces:
        if piece.kind == "mark" and not inside and run:
            yield run
            run = []
        run.append(piece)
        if piece.kind == "mark":
            if inside:
                yield run
                run = []
            inside = not inside
    if run:
        yield run


def _segment(run: list[Piece], layout: NativeLayout, patches: Patches) -> Segment:
    made = Segment(torch.cat([_ids(piece, layout) for piece in run]))
    for piece in run:
        if piece.kind not in ("image", "audio") or (piece.rows and piece.rows[0]):
            continue
        if piece.kind == "audio":
            made.sounds.append(piece.value.shape[1])
        elif piece.value.ndim == 3:
            made.images.append(patches.grid(piece.value))
        else:
            made.clips.append(patches.grid(piece.value))
            made.step_seconds = piece.step * patches.frames
    return made


def _ids(piece: Piece, layout: NativeLayout) -> torch.Tensor:
    if piece.kind not in ("image", "audio"):
        return piece.value.cpu()
    kind = "audio" if piece.kind == "audio" else "image" if piece.value.ndim == 3 else "video"
    return torch.full((piece.tokens,), layout.placeholders[kind])


def _joined(parts_3S: list[torch.Tensor]) -> torch.Tensor:
    """Positions [3, L] of segments one after the other: each begins one past the last token of the one before it."""
    joined, start = [], torch.zeros(())
    for part_3S in parts_3S:
        joined.append(part_3S + start)
        start = joined[-1][:, -1].max() + 1
    return torch.cat(joined, dim=1)


@cache
def _patchify() -> Callable[..., tuple[torch.Tensor, int, int, int]]:
    """transformers' own order of patches, imported when a picture is there: other backbones never need it."""
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    return Qwen2VLVideoProcessor().patchify


def _counts(pieces: Pieces) -> torch.Tensor:
    return torch.tensor([piece.tokens for piece in pieces.pieces])
