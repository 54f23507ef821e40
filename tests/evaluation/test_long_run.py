"""Long contents by several methods: rows that say what was taken and what it cost, and their place in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from commonspace.configuration import compose
from commonspace.content import Content, Document
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation import long_run
from commonspace.evaluation.long_report import blocks, figures, quality_and_cost
from commonspace.evaluation.long_rows import LongRow, long_table, read_long
from commonspace.evaluation.results import Scored
from commonspace.models.precision import InPrecision
from tests.evaluation.made import record
from tests.evaluation.test_long_inputs import OTHERS, page
from tests.models.pretrained import built
from tests.models.tiny import tiny_embedder

METHODS = ("limit", "restart", "merged", "windows")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a random model on four dev pages among thirty."""
    root = tmp_path_factory.mktemp("long")
    for split, pages in (("dev", [page(f"p{n}") for n in range(4)]), ("train", OTHERS)):
        records = [
            replace(record(p.key, "document", p.concept, p.title, ("en", Content(Document(*p.parts)))), source="gimp")
            for p in pages
        ]
        with_licence(root / "data/mini", records, split)
    tiny_embedder().save(root / "model")
    options = [
        "data.split=dev", "parts=[1,16]", "tokens=[40,300]", "bootstrap=50", "~methods.interpolate",
        "methods.windows.window=48", "methods.windows.global_every=2",
    ]  # fmt: skip
    places = [f"embedder={root / 'model'}", f"paths.data={root / 'data'}", f"output={root / 'out'}"]
    long_run.main(compose("evaluate_long", [*places, *options, "methods.merged.merge_beyond=64"]))
    return root / "out"


def with_licence(root: Path, records: list, split: str) -> None:
    from commonspace.data.shard_writer import ShardWriter

    with ShardWriter(root / "document", "document", split, {"gimp": "CC0-1.0"}) as writer:
        for item in records:
            writer.write(item)


def rows_of(output: Path, metric: str = "MRR@10") -> dict[tuple[str, str, int], LongRow]:
    return {(row.method, row.axis, row.asked): row for row in read_long(output) if row.row.metric == metric}


def test_rows_say_what_entered_and_what_it_cost(output: Path) -> None:
    rows = rows_of(output)
    assert len(rows) == 4 * 4 and len(list(output.rglob("*.lineage.json"))) == 1
    for (method, axis, asked), row in rows.items():
        assert (row.row.queries, row.row.pool, row.row.split, row.row.task) == (4, 4, "dev", "long")
        assert row.seconds > 0 and row.row.ci95 is not None and row.row.command is not None
        assert (row.parts == asked) if axis == "parts" else (asked - 24 < row.tokens <= asked)
        wanted = {"limit": min(row.tokens, 128), "merged": min(row.tokens, 64)}.get(method, row.tokens)
        assert (row.window, row.global_every) == ((48, 2) if method == "windows" else (None, None))
        assert row.entered <= wanted and row.entered > 0.7 * wanted


def test_within_the_positions_all_methods_are_the_same(output: Path) -> None:
    rows = rows_of(output)
    for axis, asked in (("parts", 1), ("tokens", 40)):
        assert len({rows[method, axis, asked].row.value for method in METHODS}) == 1
        assert rows["merged", axis, asked].difference == (0, 0, 0)
    price = rows["merged", "tokens", 300]
    assert price.difference[0] == pytest.approx(price.row.value - rows["restart", "tokens", 300].row.value, abs=2e-6)
    assert price.reference == "restart" and (price.positions, price.merge_beyond) == ("limit", 64)


def test_the_report_shows_held_out_rows_alone(output: Path, tmp_path: Path) -> None:
    from commonspace.evaluation.long_rows import write_long

    assert not list(blocks(output)) and list(figures(output)) == [("long", None)]
    held = [replace(row, row=replace(row.row, split="heldout")) for row in read_long(output)]
    write_long(tmp_path, "model", held)
    assert read_long(tmp_path) == held, "what is written is read"
    ((title, text, plot),) = blocks(tmp_path)
    assert (title, plot) == ("Long and interleaved inputs", "long") and long_table(held) in text
    assert text.count("| model | 300 tokens | merged |") == 1 and "from restart" in text
    drawn = quality_and_cost(held)
    assert [axis.get_xlabel() for axis in drawn.axes] == ["parts of a content", *["tokens of a content"] * 2]
    assert [len(axis.get_lines()) for axis in drawn.axes] == [4, 4, 4]


def test_a_line_that_is_no_row_is_named(output: Path, tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    (tmp_path / "long/m.jsonl").write_text('{"method": "limit"}\n')
    with pytest.raises(DataError, match=r"m.jsonl:1: no row of long inputs"):
        read_long(tmp_path)


@pytest.mark.parametrize(
    "methods, message",
    [
        ({"limit": {}}, "reference='restart' is none of the methods limit"),
        ({"restart": {"windows": 2}}, "windows is no option; use positions, merge_beyond, window, global_every"),
    ],
)
def test_methods_that_are_none_are_refused(methods: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        long_run.methods_of(methods, "restart")


def test_methods_that_a_backbone_cannot_run_are_refused_before_anything_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built(tmp_path, "qwen3")
    for name in ("embed", "embed_pieces"):
        monkeypatch.setattr(type(model), name, lambda *given, **options: pytest.fail("something was embedded"))
    methods = long_run.methods_of({"limit": {}, "restart": {"positions": "restart"}}, "limit")
    options = {"methods": methods, "reference": "limit", "lengths": {"parts": [1, 16], "tokens": [300]}}
    with pytest.raises(ConfigError, match=r"methods.restart: a causal_lm cannot run it; leave it out by ~methods.re"):
        list(long_run.evaluate_long(InPrecision(model, "32-true"), [], [], Scored("m", "model"), "dev", **options))
