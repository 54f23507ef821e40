"""Vectors on disk: made once, whole, and what cannot be embedded named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commonspace.content import Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from commonspace.mining.rules import code
from commonspace.mining.vectors import embed_side
from tests.mining.made import Written, model, pair, plain_pairs, vectors_of, write


def test_rows_blocks_and_facts_are_those_of_the_records(tmp_path: Path) -> None:
    reader = write(tmp_path, plain_pairs(23))
    found = embed_side(model(), reader, "positive", tmp_path / "work", chunk=5)
    expected = vectors_of(reader)[1]
    rows = np.array([22, 0, 7, 7, 13])
    assert np.array_equal(found.rows(rows), expected[rows]) and found.size == 4
    for kept in (False, True):
        if kept:
            found.keep(1, "cpu")
        assert np.array_equal(np.concatenate([block for _, block in found.blocks(7)]), expected)
        assert [start for start, _ in found.blocks(10)] == [0, 10, 20]
        assert np.array_equal(found.rows(rows), expected[rows])
    records = list(reader)
    assert found.fact("ids").tolist() == [r.positives[0].content.digest() for r in records]
    assert found.fact("texts")[3] == code(records[3].positives[0].content.parts[0].text)
    assert found.fact("usable").all() and found.failures == []


def test_more_than_the_memory_allows_is_not_kept(tmp_path: Path) -> None:
    found = embed_side(model(), write(tmp_path, plain_pairs(23)), "query", tmp_path / "work", chunk=5)
    found.keep(23 * 4 * 4 / 1e6 - 1e-6, "cpu")
    assert found._kept is None
    found.keep(23 * 4 * 4 / 1e6, "cpu")
    assert found._kept is not None


def test_vectors_are_made_once_for_a_model_and_a_prefix(tmp_path: Path) -> None:
    reader, counted = write(tmp_path, plain_pairs(12)), Written()
    first = embed_side(model(embedder=counted), reader, "query", tmp_path / "work", chunk=5)
    again = embed_side(model(embedder=counted), reader, "query", tmp_path / "work", chunk=5)
    assert counted.embedded == 12 and again.folder == first.folder
    first.paths[1].unlink()  # as if the second part had never been finished
    embed_side(model(embedder=counted), reader, "query", tmp_path / "work", chunk=5)
    assert counted.embedded == 17
    others = [
        embed_side(model("other"), reader, "query", tmp_path / "work", chunk=5),
        embed_side(model(), reader, "query", tmp_path / "work", prompt="search result", chunk=5),
        embed_side(model(), reader, "positive", tmp_path / "work", chunk=5),
    ]
    assert len({first.folder, *(one.folder for one in others)}) == 4


def test_what_cannot_be_embedded_is_named_and_zero(tmp_path: Path) -> None:
    records = plain_pairs(6)
    records[2] = pair("bad", "broken", "t|1 0 0 0")
    records[4] = pair("odd", "q|nan 0 0 0", "t|1 0 0 0")
    reader = write(tmp_path, records)
    with reader.folder.joinpath("train-00000.tar").open("r+b") as tar:  # bytes that rot, of a record before
        tar.seek(int(reader.column("offset")[1]) + 600)
        tar.write(b"rot")
    found = embed_side(model(), reader, "query", tmp_path / "work", chunk=4)
    assert found.fact("usable").tolist() == [True, False, False, True, False, True]
    assert not found.rows(np.array([1, 2, 4])).any()
    assert [told.split(":")[0] for told in found.failures] == ["r1", "bad", "odd"]
    assert "damaged" in found.failures[0] and "not finite" in found.failures[2]


def test_nothing_but_failures_is_an_error(tmp_path: Path) -> None:
    reader = write(tmp_path, [pair(f"r{n}", f"broken {n}", "t|1 0") for n in range(3)])
    with pytest.raises(DataError, match="no query could be embedded; the first: r0: broken 0"):
        embed_side(model(), reader, "query", tmp_path / "work")


@pytest.mark.parametrize("ending", [".npy", ".safetensors"])
def test_a_damaged_part_is_made_again_by_the_next_call(tmp_path: Path, ending: str) -> None:
    reader = write(tmp_path, plain_pairs(12))
    found = embed_side(model(), reader, "query", tmp_path / "work", chunk=5)
    damaged = found.paths[1].with_suffix(ending)
    damaged.write_bytes(damaged.read_bytes()[:90])
    with pytest.raises(DataError, match=f"000001{ending}: was damaged .* run the same command again"):
        embed_side(model(), reader, "query", tmp_path / "work", chunk=5).rows(np.arange(12))
    again = embed_side(model(), reader, "query", tmp_path / "work", chunk=5)
    assert np.array_equal(again.rows(np.arange(12)), vectors_of(reader)[0])


def test_any_modality(tmp_path: Path) -> None:
    side = (Variant(Content(Image(b"i|3 4", name="a.png"), "beside")),)
    reader = write(tmp_path, [Record(f"r{n}", "any", "made", f"c{n}", side, side) for n in range(2)])
    found = embed_side(model(), reader, "query", tmp_path / "work")
    assert np.allclose(found.rows(np.array([1])), [[0.6, 0.8]])
    assert found.fact("texts").tolist() == [0, 0] and found.fact("words")[0] == code("beside")
