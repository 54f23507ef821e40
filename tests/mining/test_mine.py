"""Mining against brute force: what is kept, in either direction, and what the loader then reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from commonspace.content import Content, Image
from commonspace.data.negatives import read_negatives
from commonspace.data.sample import Record, Variant
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.mining import candidates as candidates_module
from commonspace.mining.candidates import Search
from commonspace.mining.mine import Mined, mine, write_mined
from commonspace.mining.options import MiningOptions
from tests.mining.made import Written, by_key, model, pair, plain_pairs, vectors_of, write

OPEN = MiningOptions(count=3, margin=None)


def lists(reader: ShardReader, options: MiningOptions, **given) -> dict[str, list[str]]:
    return by_key(mine(model(), reader, options, reader.folder.parent / "work", **given), reader)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("chunk", [7, 256])
def test_negatives_are_the_best_ranked_wrong_answers(tmp_path: Path, direction: str, chunk: int) -> None:
    reader = write(tmp_path, plain_pairs(50))
    mined = mine(model(), reader, OPEN, tmp_path / "work", direction=direction, chunk=chunk)
    query, target = vectors_of(reader) if direction == "forward" else vectors_of(reader)[::-1]
    scores = query @ target.T
    assert np.allclose(mined.positives, np.diag(scores), atol=1e-6)
    np.fill_diagonal(scores, -2)
    best = np.argsort(-scores, axis=1)[:, :3]
    assert mined.rows.reshape(50, 3).tolist() == best.tolist() and mined.asked.tolist() == list(range(50))
    assert np.allclose(mined.scores.reshape(50, 3), np.take_along_axis(scores, best, axis=1), atol=1e-6)
    assert mined.ranks.reshape(50, 3).tolist() == [[1, 2, 3]] * 50


def test_graphs_give_nearly_the_same(tmp_path: Path) -> None:
    reader = write(tmp_path, plain_pairs(300, width=8))
    exact = mine(model(), reader, OPEN, tmp_path / "work", chunk=64)
    graphs = mine(model(), reader, OPEN, tmp_path / "work", chunk=64, search=Search(graph_rows=128))
    assert (exact.rows == graphs.rows).mean() > 0.95
    assert exact.recall is None and graphs.recall > 0.95


def test_known_correct_answers_never_enter(tmp_path: Path) -> None:
    records = [
        pair("own", "query|1 0 0", "target|1 0 0", "flamingo"),
        pair("same_concept", "b|0 1 0", "flamingo|1 0.1 0", "flamingo"),
        pair("same_query", "query|1 0 0", "c|1 0.2 0"),
        pair("same_target", "d|0 1 0", "target|1 0 0"),
        pair("same_text", "e|0 1 0", "  TARGET|1  0 0 "),
        pair("wrong", "f|0 0 1", "g|1 0.3 0"),
        pair("wrong_again", "h|0 0 1", "g|1 0.3 0"),  # one target need not be there twice
    ]
    reader = write(tmp_path, records)
    mined = mine(model(), reader, MiningOptions(count=6, margin=None), tmp_path / "work")
    assert by_key(mined, reader)["own"] == ["wrong"]
    assert all(mined.dropped[rule] > 0 for rule in ("self", "same_id", "same_concept", "same_text", "repeated"))


def test_a_class_larger_than_the_search_is_wide_still_has_negatives(tmp_path: Path, monkeypatch) -> None:
    """As where a classification set is mined: what ranks best is all of the query's own label."""
    records = [pair(f"in{n}", f"q{n}|1 0.{n}", f"t{n}|1 0.0{n}", "label") for n in range(9)]
    records += [pair(f"out{n}", f"a{n}|0 1", f"b{n}|1 {n + 2}") for n in range(4)]
    reader = write(tmp_path, records)
    monkeypatch.setattr(candidates_module, "_WIDEST", 3)
    found = mine(model(), reader, MiningOptions(count=2, margin=None, depth=3), tmp_path / "work")
    assert by_key(found, reader)["in4"] == ["out0", "out1"]
    graphs = mine(model(), reader, OPEN, tmp_path / "work", search=Search(graph_rows=100))
    assert by_key(graphs, reader)["in4"] == ["out0", "out1", "out2"]


def test_pairs_of_a_container_may_be_negatives_and_relations_follow_the_query(tmp_path: Path) -> None:
    records = [
        pair("a", "one|1 0", "x|1 0", "page"),
        pair("b", "two|0 1", "y|1 0.1", "page"),
        pair("c", "three|0 1", "z|1 0.2", "other"),
        pair("d", "one|1 0", "u|1 0.3", "page"),
    ]
    reader = write(tmp_path, records)
    found = {m: lists(reader, OPEN, match=m)["a"] for m in ("concept", "pair", "relation")}
    # "d" has the words of "a", so it is out in any case, by its query.
    assert found == {"concept": ["c"], "pair": ["b", "c"], "relation": ["b", "c"]}
    assert lists(reader, OPEN, match="relation", direction="reverse")["b"] == ["a", "c"]
    with pytest.raises(DataError, match="match='page'"):
        lists(reader, OPEN, match="page")


def test_short_lists_stay_short(tmp_path: Path) -> None:
    records = [
        pair("own", "q|1 0", "t|1 0.5"),
        pair("near", "a|0 1", "u|1 0.52"),
        pair("better", "b|0 1", "v|1 0"),
        pair("far", "c|0 1", "w|1 2"),
    ]
    reader = write(tmp_path, records)
    mined = mine(model(), reader, MiningOptions(count=3, margin=0.95), tmp_path / "work")
    assert by_key(mined, reader)["own"] == ["far"] and mined.scores[0] <= 0.95 * mined.positives[0]
    assert len(lists(reader, OPEN)["own"]) == 3


def test_the_window_counts_ranks_of_what_may_be_wrong(tmp_path: Path) -> None:
    reader = write(tmp_path, plain_pairs(40))
    free = lists(reader, MiningOptions(count=10, margin=None))
    assert lists(reader, MiningOptions(count=4, skip=3, depth=8, margin=None)) == {k: v[3:7] for k, v in free.items()}
    late = MiningOptions(count=2, margin=None, selection="rank", rank=9)
    assert lists(reader, late) == {key: keys[8:10] for key, keys in free.items()}
    lowest = MiningOptions(count=2, depth=10, margin=None, selection="lowest")
    assert lists(reader, lowest) == {key: keys[:-3:-1] for key, keys in free.items()}


def test_random_negatives_do_not_depend_on_how_the_work_was_cut(tmp_path: Path) -> None:
    reader, options = write(tmp_path, plain_pairs(40)), MiningOptions(count=2, margin=None, selection="random")
    first = lists(reader, options, chunk=7, seed=1)
    assert first == lists(reader, options, chunk=40, seed=1) != lists(reader, options, chunk=40, seed=2)


def test_what_cannot_be_embedded_is_named_and_left_out(tmp_path: Path) -> None:
    reader = write(tmp_path, [*plain_pairs(6), pair("bad", "broken", "t|1 0 0 0"), pair("bad2", "q|1 0 0 0", "broken")])
    mined = mine(model(), reader, MiningOptions(count=20, margin=None), tmp_path / "work", chunk=3)
    assert [told.split(":")[0] for told in mined.skipped] == ["bad", "bad2"]
    found = by_key(mined, reader)
    assert set(found) == {f"r{n}" for n in range(6)}
    assert all(sorted(keys) == sorted(set(found) - {key}) for key, keys in found.items())


def test_any_modality(tmp_path: Path) -> None:
    side = lambda name, n: (Variant(Content(Image(f"{name}|{n + 1} 1".encode()), "beside")),)  # noqa: E731
    reader = write(tmp_path, [Record(f"r{n}", "any", "made", f"c{n}", side("i", n), side("j", n)) for n in range(5)])
    assert lists(reader, MiningOptions(count=2, margin=None))["r0"] == ["r1", "r2"]


def test_a_second_call_embeds_nothing_and_gives_the_same(tmp_path: Path) -> None:
    reader, counted = write(tmp_path, plain_pairs(30)), Written()
    first = mine(model(embedder=counted), reader, OPEN, tmp_path / "work", chunk=8)
    again = mine(model(embedder=counted), reader, OPEN, tmp_path / "work", chunk=8)
    other = mine(model(embedder=counted), reader, MiningOptions(count=1), tmp_path / "work", chunk=8)
    assert counted.embedded == 60 and np.array_equal(first.rows, again.rows) and len(other.rows) <= 30


def test_the_loader_reads_what_was_mined(tmp_path: Path) -> None:
    reader = write(tmp_path, plain_pairs(20))
    mined = mine(model(), reader, MiningOptions(count=3), tmp_path / "work")
    path = write_mined(tmp_path / "negatives", reader, mined)
    found = read_negatives(path, reader)
    assert path.name == "any.parquet" and len(found) == 20
    for place, row in enumerate(mined.asked):
        assert found.of(row).tolist() == mined.rows[mined.list_of(place)].tolist()
    assert any(len(found.of(row)) < 3 for row in range(20))
    with pytest.raises(DataError, match=r"any\.parquet: mined on other shards.*commonspace mine"):
        read_negatives(path, write(tmp_path / "other", plain_pairs(20, seed=1)))
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"any\.parquet"):
        read_negatives(path, reader)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train split only"):
        mine(model(), write(tmp_path / "dev", plain_pairs(3), "dev"), OPEN, tmp_path / "work")
    with pytest.raises(DataError, match="two at least"):
        mine(model(), write(tmp_path / "one", plain_pairs(1)), OPEN, tmp_path / "work")
    twice = write(tmp_path / "twice", plain_pairs(4))
    twice._table = twice.index.set_column(0, "key", pa.array(["r0", "r1", "r1", "r3"]))  # shards of another program
    with pytest.raises(DataError, match="two records have the same key"):
        mine(model(), twice, OPEN, tmp_path / "work")


def test_lists_lie_where_their_counts_say() -> None:
    mined = Mined.__new__(Mined)
    mined.counts = np.array([2, 0, 3])
    assert [mined.list_of(place) for place in range(3)] == [slice(0, 2), slice(2, 2), slice(2, 5)]
