"""One training batch, and how it travels from a worker to the training process.

A batch of 500 samples holds thousands of small tensors. Sent one by one each would cost a shared-memory segment and
about a millisecond, so they are laid end to end, one tensor a dtype, and cut into views on arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain

import torch

from commonspace.processing.pieces import MARKS, Piece, Pieces


@dataclass
class Batch:
    """One task's samples of one step, this rank's share of them; B rows.

    negatives    hard negatives of each row, as many as it has
    query_ids, positive_ids  int64 [B], hashes of the raw contents (equation 3 masks by them)
    sources      "<folder>/<tar>:<key>" of each row
    reverse      the objective is also taken target to query
    skipped      one message for each sample that could not be used and was replaced
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


# What a piece is without its values: kind, tokens, whether a feature, dtype, shape.
_Spec = tuple[str, int, bool, torch.dtype, tuple[int, ...]]


@dataclass
class PackedBatch:
    """A batch whose values lie end to end: a few tensors whatever its size."""

    outline: Batch  # without pieces
    specs: list[list[_Spec | int]]  # of each content its pieces; a mark is its number
    counts: list[int]  # negatives of each row
    values: dict[torch.dtype, torch.Tensor]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        """The same with its values on `device`; ids stay where they are, they only make masks."""
        moved = {dtype: value.to(device, non_blocking=non_blocking) for dtype, value in self.values.items()}
        return replace(self, values=moved)


def pack(batch: Batch) -> PackedBatch:
    """Lay the values of a batch end to end."""
    values: dict[torch.dtype, list[torch.Tensor]] = {}
    known: dict[_Spec, _Spec] = {}  # equal specs are one object, which pickle then writes once
    specs: list[list[_Spec | int]] = []
    for pieces in chain(batch.query, batch.positive, *batch.negatives):
        row: list[_Spec | int] = []
        for piece in pieces.pieces:
            if piece.kind == "mark":
                row.append(int(piece.value))
                continue
            spec = (piece.kind, piece.tokens, piece.is_feature, piece.value.dtype, tuple(piece.value.shape))
            row.append(known.setdefault(spec, spec))
            values.setdefault(piece.value.dtype, []).append(piece.value.reshape(-1))
        specs.append(row)
    outline = replace(batch, query=[], positive=[], negatives=[])
    joined = {dtype: torch.cat(parts) for dtype, parts in values.items()}
    return PackedBatch(outline, specs, [len(row) for row in batch.negatives], joined)


def unpack(packed: PackedBatch) -> Batch:
    """Inverse of `pack`; the pieces are views of the packed values."""
    views = {
        dtype: iter(value.split([_size(spec) for spec in _flat(packed.specs) if spec[3] == dtype]))
        for dtype, value in packed.values.items()
    }
    device = next((value.device for value in packed.values.values()), torch.device("cpu"))
    contents = iter([Pieces(tuple(_piece(spec, views, device) for spec in row)) for row in packed.specs])
    size = len(packed.counts)
    query = [next(contents) for _ in range(size)]
    positive = [next(contents) for _ in range(size)]
    negatives = [[next(contents) for _ in range(count)] for count in packed.counts]
    return replace(packed.outline, query=query, positive=positive, negatives=negatives)


def _flat(specs: Sequence[Sequence[_Spec | int]]) -> Iterable[_Spec]:
    return (spec for row in specs for spec in row if not isinstance(spec, int))


def _size(spec: _Spec) -> int:
    size = 1
    for length in spec[4]:
        size *= length
    return size


def _piece(spec: _Spec | int, views: dict[torch.dtype, Iterator[torch.Tensor]], device: torch.device) -> Piece:
    if isinstance(spec, int):
        return _mark(spec, device)
    kind, tokens, is_feature, dtype, shape = spec
    value = next(views[dtype])
    return Piece(kind, value if len(shape) == 1 else value.view(shape), tokens, is_feature)


@cache
def _mark(number: int, device: torch.device) -> Piece:
    if not 0 <= number < len(MARKS):
        raise ValueError(f"no mark has the number {number}")
    return Piece("mark", torch.tensor(number, device=device), 1)
