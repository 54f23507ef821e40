"""The profile of a step: its parts together are the step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import profile_step
from benchmarks.measure import parser


def test_parts_are_the_whole_step(small_weights: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    given = ["--weights", str(small_weights), "--quick", "--json", str(rows)]
    profile_step.main(parser(profile_step.__doc__, weights="").parse_args(given))
    read = [json.loads(line) for line in rows.read_text().splitlines()]
    for pairs in ("image_caption", "summary"):
        spent = {row["part"]: row["spent"]["middle"] for row in read if row["pairs"] == pairs}
        whole = spent.pop("the step")
        assert spent.pop("decoding, beside it") > 0 and min(spent.values()) > 0
        assert sum(spent.values()) == pytest.approx(whole)
        assert ("image tower, forward" in spent) is (pairs == "image_caption")
