"""Turns, spreads, operations, memory and the table, against numbers worked out by hand."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import measure
from benchmarks.measure import PeakMemory, Spread, Table, interleaved, operations, ratio


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def side(name: str) -> float:
        calls.append(name)
        return len(calls)

    found = interleaved({"a": lambda: side("a"), "b": lambda: side("b")}, 2)
    assert calls == ["b", "a", "a", "b", "b", "a"]
    assert found == {"a": [3, 6], "b": [4, 5]}


def test_a_ratio_is_of_medians_and_its_range_of_single_rounds() -> None:
    found = ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    assert (found.middle, found.low, found.high) == (2.0, 2.0, 3.0)
    assert f"{Spread.of([3.0, 1.0, 2.0]):.1f}" == "2.0 [1.0, 3.0]"
    assert f"{Spread.of([3.0]):.1f}" == "3.0"


def test_operations_of_a_layer_and_of_its_backward_pass() -> None:
    layer, inputs = nn.Linear(8, 4, bias=False), torch.ones(2, 8, requires_grad=True)
    forward = 2 * 2 * 8 * 4
    assert operations(lambda: layer(inputs)) == forward
    assert operations(lambda: layer(inputs).sum().backward()) == 3 * forward


def test_attention_counts_both_of_its_products() -> None:
    query = torch.ones(1, 2, 16, 8)
    attend = nn.functional.scaled_dot_product_attention
    assert operations(lambda: attend(query, query, query)) == 2 * (2 * 2 * 16 * 16 * 8)


def test_the_peak_is_seen_after_what_made_it_is_gone() -> None:
    peak = PeakMemory()
    torch.ones(64_000_000 // 4).sum()
    grown = peak.growth()
    assert 50e6 < grown < 150e6
    assert PeakMemory().growth() < 20e6


def test_rows_are_printed_and_kept_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "rows.jsonl"
    table = Table({"name": ("side", ""), "rate": ("a second", ".1f"), "mb": ("MB", ".0f")}, {"cores": 2}, file, "about")
    table.add(name="ours", rate=Spread(1.25, 1.0, 2.0), mb=3.4)
    table.add(name="peer", rate=None)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-4:] == [
        "| side | a second | MB |",
        "|---|---|---|",
        "| ours | 1.2 [1.0, 2.0] | 3 |",
        "| peer | - | - |",
    ]
    first, second = map(json.loads, file.read_text().splitlines())
    spread = {"middle": 1.25, "low": 1.0, "high": 2.0}
    assert (first["name"], first["rate"], first["mb"]) == ("ours", spread, 3.4)
    assert (second["name"], second["machine"], second["about"]) == ("peer", {"cores": 2}, "about")


@pytest.mark.slow
def test_a_process_of_its_own_gives_its_value_or_says_why_not() -> None:
    script = str(Path(__file__).with_name("script_alone.py"))
    assert measure.alone(script, text="fünf") == {"text": "fünf"}
    with pytest.raises(RuntimeError, match="no text was given"):
        measure.alone(script, text="")


def test_the_options_of_a_script() -> None:
    options = measure.parser("First line.\nmore", weights="cache/weights").parse_args(["--quick"])
    assert options == argparse.Namespace(quick=True, json=None, weights=Path("cache/weights"))
