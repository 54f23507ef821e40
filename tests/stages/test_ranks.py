"""Processes of tests: who fails or waits for ever is named, soon, with its case and its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.stages import ranks


def part(case: str) -> dict[str, torch.Tensor]:
    """Rank 1 takes part in each case; rank 0 leaves a collective out, or fails beside one."""
    rank = torch.tensor(dist.get_rank())
    if case == "raises" and rank == 0:
        raise ValueError("of rank 0")
    if case == "meets" or rank == 1:
        dist.all_reduce(rank)
    return {"sum": rank}


def test_all_have_what_their_cases_give(tmp_path: Path) -> None:
    assert ranks.run(part, {"meets": "meets"}, 2, tmp_path) == [{"meets": {"sum": torch.tensor(1)}}] * 2


def test_a_rank_that_raises_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"(?s)rank 0: Traceback .*ValueError: of rank 0"):
        ranks.run(part, {"meets": "meets", "raises": "raises"}, 2, tmp_path)


def test_a_rank_that_waits_for_ever_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as told:
        ranks.run(part, {"meets": "meets", "left out": "left out"}, 2, tmp_path, limit=8.0)
    assert re.search(r"rank [01] did not end '(left out|the parting)' in 8 s", str(told.value))
    assert re.search(r"(?s)rank 1, in '(left out|the parting)':.*line \d+ in (part|_take_part)", str(told.value))
