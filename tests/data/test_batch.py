"""Batches made of sub-batches: rows in order, and each part knows its own."""

from __future__ import annotations

import torch

from commonspace.data.batch import MIXED, Batch, SubBatch, joined, pack, unpack
from commonspace.processing.pieces import Piece, Pieces


def text(number: int) -> Pieces:
    return Pieces((Piece("text", torch.tensor([number]), 1),))


def batch(task: str, first: int, rows: int, **options) -> Batch:
    numbers = range(first, first + rows)
    return Batch(
        task=task, query=[text(n) for n in numbers], positive=[text(-n) for n in numbers],
        negatives=[[text(100 + n)] * (n % 3) for n in numbers], query_ids=torch.tensor(list(numbers)),
        positive_ids=-torch.tensor(list(numbers)), sources=[f"{task}:{n}" for n in numbers], step=4, **options,
    )  # fmt: skip


def ids(contents: list[Pieces]) -> list[int]:
    return [int(content.pieces[0].value) for content in contents]


def test_rows_of_sub_batches_follow_each_other() -> None:
    parts = [
        batch("a", 1, 2, seed=7, parts=(SubBatch("a", 2, 0.5, ("a is broken",)),)),
        batch("b", 10, 3, seed=8, parts=(SubBatch("b", 3, 1.5, ("b is broken",)),)),
    ]
    for made in (joined(parts), unpack(pack(joined(parts)))):
        assert (made.task, made.step, made.seed, len(made)) == (MIXED, 4, 7, 5)
        assert ids(made.query) == made.query_ids.tolist() == [1, 2, 10, 11, 12]
        assert ids(made.positive) == made.positive_ids.tolist() == [-1, -2, -10, -11, -12]
        assert [ids(row) for row in made.negatives] == [[101], [102, 102], [110], [111, 111], []]
        assert made.sources == ["a:1", "a:2", "b:10", "b:11", "b:12"]
        assert [(part.task, part.rows, part.epochs) for part in made.parts] == [("a", 2, 0.5), ("b", 3, 1.5)]
        assert made.skipped == ["a is broken", "b is broken"]


def test_hard_negatives_of_the_reverse_stay_in_their_rows() -> None:
    mined = batch("a", 1, 2, reverse_negatives=[[text(7)], []], reverse_negative_ids=[[70], []])
    plain = batch("b", 10, 3)
    for made in (joined([mined, plain]), unpack(pack(joined([mined, plain])))):
        assert [ids(row) for row in made.reverse_negatives] == [[7], [], [], [], []]
        assert made.reverse_negative_ids == [[70], [], [], [], []]
        assert ids(made.contents)[-2:] == [111, 7] and made.tokens == len(made.contents) == 17
        assert [ids(row) for row in made.negatives] == [[101], [102, 102], [110], [111, 111], []]
    assert unpack(pack(plain)).reverse_negatives == [] == joined([plain, plain]).reverse_negatives


def test_a_batch_of_one_task_stays_what_it_is() -> None:
    alone = batch("a", 1, 2)
    assert joined([alone]) is alone and alone.parts == (SubBatch("a", 2),)
