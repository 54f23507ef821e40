"""One training batch, and how it travels from a worker to the training process.

A batch of 500 samples holds thousands of small tensors. Sent one by one each would cost a shared-memory segment and
about a millisecond, so they are laid end to end, one tensor a dtype, and cut into views on arrival.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain

import torch

from commonspace.processing.pieces import Piece, Pieces


@dataclass
class Batch:
    """One task's samples of one step, this rank's share of them; B rows.

    negatives    hard negatives of each row, as many as it has
    query_ids, positive_ids  int64 [B], hashes of the raw contents (equation 3 masks by them)
    sources      "<folder>/<tar>:<key>" of each row
    reverse      the objective is also taken target to query
    skipped      one message for each sample that could not be used and was replaced
    waited       seconds the training process waited for this batch
    """

    task: str
    query: list[Pieces]
    positive: list[Pieces]
    negatives: list[list[Pieces]]
    query_ids: torch.Tensor
    positive_ids: torch.Tensor
    sources: list[str]
    step: int
    reverse: bool = False
    skipped: list[str] = field(default_factory=list)
    waited: float = 0.0

    def __len__(self) -> int:
        return len(self.query)

    @property
    def tokens(self) -> int:
        """Tokens of all queries, positives and negatives."""
        return sum(pieces.tokens for pieces in chain(self.query, self.positive, *self.negatives))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """This batch with its tensors on `device`."""
        if torch.device(device).type == "cpu":
            return self
        return unpack(pack(self).to(device, non_blocking))


# A piece without its value: kind, tokens, whether a feature, rows, grid, step, number of its value. A learned mark is
# its own number.
_Spec = tuple[str, int, bool, tuple[int, int] | None, tuple[int, int] | None, float, int] | int


@dataclass
class PackedBatch:
    """A batch whose values lie end to end: a few tensors whatever its size."""

    outline: Batch  # without pieces
    contents: list[tuple[list[_Spec], tuple[str, ...]]]  # of each content its pieces and what was cut off
    counts: list[int]  # negatives of each row
    shapes: list[tuple[torch.dtype, tuple[int, ...]]]  # of each value
    values: dict[torch.dtype, torch.Tensor]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """The same with its values on `device`; ids stay where they are, they only make masks."""
        moved = {dtype: value.to(device, non_blocking=non_blocking) for dtype, value in self.values.items()}
        return replace(self, values=moved)


def pack(batch: Batch) -> PackedBatch:
    """Lay the values of a batch end to end; a value that several pieces share (a soundtrack) goes once."""
    numbers: dict[int, int] = {}
    shapes: list[tuple[torch.dtype, tuple[int, ...]]] = []
    parts: dict[torch.dtype, list[torch.Tensor]] = {}

    def spec(piece: Piece) -> _Spec:
        if piece.kind == "mark" and not piece.value.ndim:
            return int(piece.value)
        value = piece.value
        if id(value) not in numbers:
            numbers[id(value)] = len(shapes)
            shapes.append((value.dtype, tuple(value.shape)))
            parts.setdefault(value.dtype, []).append(value.reshape(-1))
        return piece.kind, piece.tokens, piece.is_feature, piece.rows, piece.grid, piece.step, numbers[id(value)]

    every = chain(batch.query, batch.positive, *batch.negatives)
    contents = [([spec(piece) for piece in content.pieces], content.truncated) for content in every]
    values = {dtype: torch.cat(flat) for dtype, flat in parts.items()}
    outline = replace(batch, query=[], positive=[], negatives=[])
    return PackedBatch(outline, contents, [len(row) for row in batch.negatives], shapes, values)


def unpack(packed: PackedBatch) -> Batch:
    """Inverse of `pack`; the pieces are views of the packed values."""
    views = {
        dtype: iter(value.split([math.prod(shape) for kind, shape in packed.shapes if kind == dtype]))
        for dtype, value in packed.values.items()
    }
    values = [next(views[dtype]).view(shape) for dtype, shape in packed.shapes]
    device = values[0].device if values else torch.device("cpu")

    def piece(spec: _Spec) -> Piece:
        if isinstance(spec, int):
            return _mark(spec, device)
        kind, tokens, is_feature, rows, grid, step, number = spec
        return Piece(kind, values[number], tokens, is_feature, rows, grid, step)

    contents = iter([Pieces(tuple(map(piece, specs)), truncated) for specs, truncated in packed.contents])
    size = len(packed.counts)
    query = [next(contents) for _ in range(size)]
    positive = [next(contents) for _ in range(size)]
    negatives = [[next(contents) for _ in range(count)] for count in packed.counts]
    return replace(packed.outline, query=query, positive=positive, negatives=negatives)


@cache
def _mark(number: int, device: torch.device) -> Piece:
    return Piece("mark", torch.tensor(number, device=device), 1)
