"""Mining against brute force: every rule, the window, and what the loader then reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.content import Content, Image, Text
from commonspace.data.negatives import read_negatives
from commonspace.data.sample import Record, Variant
from commonspace.data.shards import ShardReader, ShardWriter
from commonspace.errors import ConfigError, ContentError, DataError
from commonspace.mining.mine import mine, write_mined
from commonspace.mining.report import write_report
from commonspace.mining.rules import MiningOptions, apply_rules
from commonspace.mining.search import neighbours

OPEN = MiningOptions(count=3, margin=None)


class Vectors:
    """Embeds a content by the numbers written in its text, or in its image's bytes."""

    def embed(self, contents, *, task=None, role=None, batch_tokens=8192) -> np.ndarray:
        rows = []
        for content in contents:
            part = content.parts[0]
            text = part.text if isinstance(part, Text) else part.read_bytes().decode()
            if text.startswith("broken"):
                raise ContentError(f"{text}: cannot be read")
            rows.append([float(number) for number in text.split("|")[1].split()])
        values = np.array(rows, dtype=np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)


def pair(key: str, query: str, positive: str, concept: str | None = None) -> Record:
    return Record(key, "any", "made", concept or key, (Variant(Content(query)),), (Variant(Content(positive), "en"),))


@pytest.fixture
def shards(tmp_path: Path):
    def make(records: list[Record], split: str = "train") -> ShardReader:
        with ShardWriter(tmp_path / "any", "any", split, {"made": "CC0"}) as writer:
            for record in records:
                writer.write(record)
        return ShardReader(tmp_path / "any", split)

    return make


def plain_pairs(count: int, seed: int = 0) -> list[Record]:
    rng = np.random.default_rng(seed)
    query, target = rng.normal(size=(count, 4)), rng.normal(size=(count, 4))
    say = lambda name, n, row: f"{name}{n}|" + " ".join(f"{value:.4f}" for value in row)  # noqa: E731
    return [pair(f"r{n}", say("q", n, query[n]), say("t", n, target[n])) for n in range(count)]


def test_negatives_are_the_best_ranked_wrong_targets(shards):
    reader = shards(plain_pairs(50))
    mined = mine(Vectors(), reader, OPEN, progress=False)
    records = list(reader)
    query = Vectors().embed([r.queries[0].content for r in records])
    target = Vectors().embed([r.positives[0].content for r in records])
    scores = query @ target.T
    assert np.allclose(mined.positives, np.diag(scores), atol=1e-6)
    np.fill_diagonal(scores, -2)
    for row, record in enumerate(records):
        best = np.argsort(-scores[row])[:3]
        assert mined.negatives[record.key] == [f"r{n}" for n in best]
        assert np.allclose(mined.scores[record.key], scores[row][best], atol=1e-6)


@pytest.mark.parametrize("count", [5, 50])
def test_blocks_do_not_change_the_neighbours(monkeypatch, count):
    generator = torch.Generator().manual_seed(1)
    query, target = torch.randn(50, 8, generator=generator), torch.randn(50, 8, generator=generator)
    whole = list(neighbours(query, target, count))
    monkeypatch.setattr("commonspace.mining.search._SCORES", 50 * 7)
    parts = list(neighbours(query, target, count))
    assert len(whole) == 1 and len(parts) == 8
    for column in range(4):
        joined = np.concatenate([part[column] for part in parts])
        assert np.allclose(joined, whole[0][column], atol=1e-6)


def test_known_correct_answers_never_enter(shards):
    reader = shards(
        [
            pair("own", "query|1 0 0", "target|1 0 0", "flamingo"),
            pair("same_concept", "b|0 1 0", "flamingo|1 0.1 0", "flamingo"),
            pair("same_query", "query|1 0 0", "c|1 0.2 0"),
            pair("same_target", "d|0 1 0", "target|1 0 0"),
            pair("same_text", "e|0 1 0", "  TARGET|1  0 0 "),
            pair("wrong", "f|0 0 1", "g|1 0.3 0"),
            pair("wrong_again", "h|0 0 1", "g|1 0.3 0"),  # one target need not be there twice
        ]
    )
    mined = mine(Vectors(), reader, MiningOptions(count=6, margin=None), progress=False)
    assert mined.negatives["own"] == ["wrong"]
    assert mined.dropped["repeated"] > 0
    assert all(mined.dropped[rule] > 0 for rule in ("self", "same_id", "same_concept", "same_text"))


def test_pairs_of_a_container_may_be_negatives_and_relations_follow_the_query(shards):
    records = [
        pair("a", "one|1 0", "x|1 0", "page"),
        pair("b", "two|0 1", "y|1 0.1", "page"),
        pair("c", "three|0 1", "z|1 0.2", "other"),
    ]
    reader = shards(records)
    found = {
        m: mine(Vectors(), reader, OPEN, match=m, progress=False).negatives["a"]
        for m in ("concept", "pair", "relation")
    }
    assert found == {"concept": ["c"], "pair": ["b", "c"], "relation": ["b", "c"]}
    with pytest.raises(DataError, match="match='page'"):
        mine(Vectors(), reader, OPEN, match="page", progress=False)


def test_margin_drops_what_scores_near_the_positive_and_lists_stay_short(shards):
    reader = shards(
        [
            pair("own", "q|1 0", "t|1 0.5"),
            pair("near", "a|0 1", "u|1 0.52"),
            pair("better", "b|0 1", "v|1 0"),
            pair("far", "c|0 1", "w|1 2"),
        ]
    )
    mined = mine(Vectors(), reader, MiningOptions(count=3, margin=0.95), progress=False)
    assert mined.negatives["own"] == ["far"]
    assert mined.scores["own"][0] <= 0.95 * mined.positives[0]
    assert len(mine(Vectors(), reader, MiningOptions(count=3, margin=None), progress=False).negatives["own"]) == 3


def test_the_window_counts_ranks_of_what_may_be_wrong(shards):
    reader = shards(plain_pairs(40))
    free = mine(Vectors(), reader, MiningOptions(count=10, margin=None), progress=False)
    window = mine(Vectors(), reader, MiningOptions(count=4, skip=3, depth=8, margin=None), progress=False)
    for key, negatives in window.negatives.items():
        assert negatives == free.negatives[key][3:7]
    assert window.dropped["above_window"] == 3 * 40
    short = mine(Vectors(), reader, MiningOptions(count=4, skip=3, depth=7, margin=0.95), progress=False)
    assert all(set(negatives) <= set(free.negatives[key][3:7]) for key, negatives in short.negatives.items())


def test_rules_see_the_window_alone():
    identities = type("Free", (), {"positive_ids": np.arange(6)})()
    identities.known_correct = lambda rows, found: {"self": found == rows[:, None]}
    found, scores = np.array([[3, 0, 4, 5]]), np.array([[0.9, 0.8, 0.7, 0.2]])
    kept = apply_rules(np.array([0]), found, scores, np.array([0.8]), identities, MiningOptions(count=1, depth=2))
    assert kept.rows[0].tolist() == [4] and kept.dropped["margin"] == 1 and kept.dropped["self"] == 1
    nothing = apply_rules(np.array([0]), found, scores, np.array([0.1]), identities, MiningOptions(count=1, depth=2))
    assert nothing.rows[0].tolist() == []


def test_what_cannot_be_embedded_is_named_and_left_out(shards):
    reader = shards([*plain_pairs(6), pair("bad", "broken", "t|1 0 0 0"), pair("bad2", "q|1 0 0 0", "broken")])
    mined = mine(Vectors(), reader, MiningOptions(count=20, margin=None), progress=False)
    assert len(mined.skipped) == 2 and mined.skipped[0].startswith("bad: ") and mined.skipped[1].startswith("bad2: ")
    assert set(mined.negatives) == {f"r{n}" for n in range(6)}
    assert all(len(negatives) == 5 for negatives in mined.negatives.values())


def test_any_modality(shards):
    records = [
        Record(
            f"r{n}", "any", "made", f"c{n}", (Variant(Content(Image(f"i|{n + 1} 1".encode()))),),
            (Variant(Content(Image(f"j|{n + 1} 1".encode()), "beside"), None),),
        )
        for n in range(5)
    ]  # fmt: skip
    mined = mine(Vectors(), shards(records), MiningOptions(count=2, margin=None), progress=False)
    assert mined.negatives["r0"] == ["r1", "r2"]


def test_the_loader_reads_what_was_mined(shards, tmp_path):
    reader = shards(plain_pairs(20))
    mined = mine(Vectors(), reader, MiningOptions(count=3), progress=False)
    lists = read_negatives(write_mined(tmp_path / "negatives", reader, mined), reader)
    keys = reader.index.column("key").to_pylist()
    assert len(lists) == 20
    for row, key in enumerate(keys):
        assert [keys[other] for other in lists.of(row)] == mined.negatives[key]
    assert any(len(lists.of(row)) < 3 for row in range(20))  # short lists stay short

    other = shards(plain_pairs(20, seed=1))
    with pytest.raises(DataError, match=r"any\.parquet: mined on other shards.*commonspace mine"):
        read_negatives(tmp_path / "negatives" / "any.parquet", other)
    (tmp_path / "negatives" / "any.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"any\.parquet"):
        read_negatives(tmp_path / "negatives" / "any.parquet", other)


def test_the_report_adds_up(shards, tmp_path):
    reader = shards(plain_pairs(30))
    mined = mine(Vectors(), reader, MiningOptions(count=3), progress=False)
    numbers = write_report(tmp_path, reader, mined, {"model": "made"}, examples=5)
    assert numbers == json.loads((tmp_path / "any.json").read_text())
    assert numbers["kept"] == sum(map(len, mined.negatives.values())) == sum(numbers["negative_scores"])
    assert sum(numbers["positive_scores"]) == numbers["queries"] == 30
    assert sum(int(length) * count for length, count in numbers["list_lengths"].items()) == numbers["kept"]
    page = (tmp_path / "any.md").read_text()
    assert page.count("- query: q") == 5 and "| margin |" in page


def test_refusals(shards):
    with pytest.raises(DataError, match="train split only"):
        mine(Vectors(), shards(plain_pairs(3), "dev"), OPEN, progress=False)
    with pytest.raises(DataError, match="two at least"):
        mine(Vectors(), shards(plain_pairs(1)), OPEN, progress=False)
    for wrong in ({"count": 0}, {"margin": 0.0}, {"skip": 98, "depth": 100}):
        with pytest.raises(ConfigError, match="mining"):
            MiningOptions(**wrong)
