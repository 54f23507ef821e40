"""One training batch, and how it travels from a worker to the training process.

A batch of 500 samples holds thousands of small tensors. Sent one by one each would cost a shared-memory segment and
about a millisecond, so they are laid end to end, one tensor a dtype, and cut into views on arrival.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain

import torch

from commonspace.processing.pieces import Piece, Pieces

MIXED = "mixed"  # what a batch of sub-batches has for a task


@dataclass(frozen=True)
class SubBatch:
    """Which rows of a batch are one task's.

    rows      how many, after those of the sub-batches before it
    epochs    how often the run has been through the task's records with this batch
    skipped   one message for each sample that could not be used and was replaced
    """

    task: str
    rows: int
    epochs: float = 0.0
    skipped: tuple[str, ...] = ()


@dataclass
class Batch:
    """One task's samples of one step, this rank's share of them; B rows.

    negatives    hard negatives of each row, as many as it has
    query_ids, positive_ids  int64 [B], hashes of the raw contents (equation 3 masks by them)
    negative_ids  the same of each row's hard negatives; empty where they are not known
    reverse_negatives, reverse_negative_ids  hard negatives of each row's positive, which are queries; empty where the
                 task mined none
    sources      "<folder>/<tar>:<key>" of each row
    reverse      the objective is also taken target to query
    seed         of every random draw that a step on this batch makes, dropout say; None: not seeded
    parts        its tasks: one, or with sub-batches one each; `task` is then `MIXED`
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
    negative_ids: list[list[int]] = field(default_factory=list)
    reverse_negatives: list[list[Pieces]] = field(default_factory=list)
    reverse_negative_ids: list[list[int]] = field(default_factory=list)
    seed: int | None = None
    parts: tuple[SubBatch, ...] = ()
    waited: float = 0.0

    def __post_init__(self) -> None:
        self.parts = self.parts or (SubBatch(self.task, len(self.query)),)

    def __len__(self) -> int:
        return len(self.query)

    @property
    def skipped(self) -> list[str]:
        """One message for each sample that could not be used and was replaced."""
        return [message for part in self.parts for message in part.skipped]

    @property
    def tokens(self) -> int:
        """Tokens of all queries, positives and negatives."""
        return sum(pieces.tokens for pieces in self.contents)

    @property
    def contents(self) -> list[Pieces]:
        """Queries, positives, negatives row after row, then those of the reverse."""
        return [*self.query, *self.positive, *chain(*self.negatives), *chain(*self.reverse_negatives)]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """This batch with its tensors on `device`."""
        if torch.device(device).type == "cpu":
            return self
        return unpack(pack(self).to(device, non_blocking))


def joined(batches: Sequence[Batch]) -> Batch:
    """The sub-batches of one step, each of one task, as one batch; the first one's seed is the step's."""
    first = batches[0]
    if len(batches) == 1:
        return first
    return Batch(
        task=MIXED,
        query=[pieces for batch in batches for pieces in batch.query],
        positive=[pieces for batch in batches for pieces in batch.positive],
        negatives=[row for batch in batches for row in batch.negatives],
        query_ids=torch.cat([batch.query_ids for batch in batches]),
        positive_ids=torch.cat([batch.positive_ids for batch in batches]),
        sources=[source for batch in batches for source in batch.sources],
        negative_ids=[ids for batch in batches for ids in batch.negative_ids],
        **_joined_reverse(batches),
        step=first.step,
        reverse=first.reverse,
        seed=first.seed,
        parts=tuple(part for batch in batches for part in batch.parts),
    )


def _joined_reverse(batches: Sequence[Batch]) -> dict[str, list[list]]:
    """Hard negatives of the reverse, with empty rows for tasks that mined none beside tasks that did."""
    if not any(batch.reverse_negatives for batch in batches):
        return {}
    empty = [[[] for _ in batch.query] for batch in batches]
    return {
        name: [row for batch, none in zip(batches, empty, strict=True) for row in getattr(batch, name) or none]
        for name in ("reverse_negatives", "reverse_negative_ids")
    }


# A piece without its value: kind, tokens, whether a feature, rows, grid, step, number of its value. A learned mark is
# its own number.
_Spec = tuple[str, int, bool, tuple[int, int] | None, tuple[int, int] | None, float, int] | int


@dataclass
class PackedBatch:
    """A batch whose values lie end to end: a few tensors whatever its size."""

    outline: Batch  # without pieces
    contents: list[tuple[list[_Spec], tuple[str, ...]]]  # of each content its pieces and what was cut off
    counts: list[int]  # negatives of each row
    reverse_counts: list[int]  # the same of the reverse
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

    contents = [([spec(piece) for piece in content.pieces], content.truncated) for content in batch.contents]
    values = {dtype: torch.cat(flat) for dtype, flat in parts.items()}
    outline = replace(batch, query=[], positive=[], negatives=[], reverse_negatives=[])
    counts = [[len(row) for row in rows] for rows in (batch.negatives, batch.reverse_negatives)]
    return PackedBatch(outline, contents, *counts, shapes, values)


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
    negatives, reverse = (
        [[next(contents) for _ in range(count)] for count in counts]
        for counts in (packed.counts, packed.reverse_counts)
    )
    return replace(packed.outline, query=query, positive=positive, negatives=negatives, reverse_negatives=reverse)


@cache
def _mark(number: int, device: torch.device) -> Piece:
    return Piece("mark", torch.tensor(number, device=device), 1)
