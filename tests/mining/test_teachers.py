"""Teachers of vectors and of scores against plain loops, and files that are not what they should be."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from commonspace.content import Content
from commonspace.errors import ContentError, DataError
from commonspace.mining import teachers as teachers_module
from commonspace.mining.mine import mine
from commonspace.mining.options import MiningOptions
from commonspace.mining.teachers import FileTeacher, PairTeacher, TableTeacher, VectorTeacher, cosines
from commonspace.mining.vectors import embed_side, side_of
from tests.mining.made import by_key, model, pair, plain_pairs, vectors_of, write


def sides(reader, folder: Path):
    return [embed_side(model(), reader, side, folder / "work", chunk=4) for side in ("query", "positive")]


def test_vectors_score_pairs_and_have_no_opinion_on_what_they_lack(tmp_path: Path, monkeypatch) -> None:
    reader = write(tmp_path, [*plain_pairs(9), pair("bad", "q|1 0 0 0", "broken")])
    monkeypatch.setattr(teachers_module, "_PAIRS", 4)
    query, target = vectors_of(write(tmp_path / "whole", plain_pairs(9)))
    rows, others = np.array([0, 0, 3, 8, 8, 2]), np.array([1, 8, 3, 0, 7, 9])
    found = VectorTeacher("other", *sides(reader, tmp_path)).scores(rows, others)
    assert np.isnan(found[5])
    expected = [float(query[a] @ target[b]) for a, b in zip(rows[:5], others[:5], strict=True)]
    assert np.allclose(found[:5], expected, atol=1e-6)
    assert np.allclose(cosines(*sides(reader, tmp_path), rows[:5], others[:5]), expected, atol=1e-6)


def test_tables_of_late_fusion_score_by_content(tmp_path: Path) -> None:
    reader = write(tmp_path, plain_pairs(6))
    query, target = sides(reader, tmp_path)
    ids = [query.fact("ids"), target.fact("ids")]
    every = np.concatenate(ids)
    table = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float16)
    order = np.argsort(every)
    (tmp_path / "tables").mkdir()
    save_file({"ids": every[order], "vectors": table[order]}, tmp_path / "tables" / "any.safetensors")
    teacher = TableTeacher("tables", tmp_path / "tables", "any", *ids)
    found = teacher.scores(np.array([0, 5]), np.array([3, 1]))
    wide = table.astype(np.float32)
    assert np.allclose(found, [wide[0] @ wide[6 + 3], wide[5] @ wide[6 + 1]], rtol=1e-3)
    with pytest.raises(DataError, match="knows the tasks any and not speech"):
        TableTeacher("tables", tmp_path / "tables", "speech", *ids)


def scores_file(path: Path, rows: list[tuple[str, str, float]]) -> Path:
    columns = dict(zip(("query", "target", "score"), zip(*rows, strict=True), strict=True))
    if path.suffix == ".csv":
        path.write_text("\n".join(["query,target,score", *(f"{q},{t},{s}" for q, t, s in rows)]))
    else:
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), path)
    return path


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv"])
def test_scores_of_a_file(tmp_path: Path, name: str) -> None:
    reader = write(tmp_path, plain_pairs(6))
    path = scores_file(tmp_path / name, [("r0", "r0", 0.9), ("r0", "r4", 0.5), ("r5", "r1", -2.0)])
    found = FileTeacher("file", path, reader).scores(np.array([0, 0, 0, 5, 1]), np.array([4, 0, 1, 1, 5]))
    assert np.allclose(found, [0.5, 0.9, np.nan, -2.0, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("r0", "zebra", 1.0)], "target 'zebra' is the key of no record"),
        ([("r0", "r1", 1.0), ("r0", "r1", 0.5)], "the pair 'r0', 'r1' is named twice"),
        ([("r0", "r1", float("nan"))], "not finite"),
    ],
)
def test_a_file_with_wrong_scores_is_refused(tmp_path: Path, rows: list, told: str) -> None:
    path = scores_file(tmp_path / "scores.parquet", rows)
    with pytest.raises(DataError, match=f"scores.parquet: .*{told}"):
        FileTeacher("file", path, write(tmp_path, plain_pairs(3)))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    reader, path = write(tmp_path, plain_pairs(3)), tmp_path / "scores.parquet"
    with pytest.raises(DataError, match="scores.parquet: cannot be read as scores"):
        FileTeacher("file", path, reader)
    whole = scores_file(path, [("r0", "r1", 1.0)]).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # a copy that was cut short
    with pytest.raises(DataError, match="cannot be read as scores"):
        FileTeacher("file", path, reader)
    pq.write_table(pa.table({"query": ["r0"], "target": ["r1"]}), path)
    with pytest.raises(DataError, match="has the columns query, target; it needs query, target and score"):
        FileTeacher("file", path, reader)
    pq.write_table(pa.table({"query": ["r0"], "target": ["r1"], "score": ["high"]}), path)
    with pytest.raises(DataError, match="its scores are no numbers"):
        FileTeacher("file", path, reader)


def test_what_a_pair_model_cannot_read_has_no_score(tmp_path: Path) -> None:
    def judge(pairs: list[tuple[Content, Content]]) -> list[float]:
        texts = [(query.parts[0].text, target.parts[0].text) for query, target in pairs]
        if any(target.startswith("t2") for _, target in texts):
            raise ContentError("t2: is a sound")
        return [float(query[1]) + 10 * float(target[1]) for query, target in texts]

    reader = write(tmp_path, plain_pairs(5))
    teacher = PairTeacher("pairs", "pairs", lambda: judge, reader, ("query", "positive"))
    found = teacher.scores(np.array([0, 1, 1]), np.array([3, 2, 4]))
    assert np.allclose(found, [30, np.nan, 41], equal_nan=True)
    mirrored = PairTeacher("pairs", "pairs", lambda: lambda pairs: [1.0] * len(pairs), reader, ("positive", "query"))
    assert mirrored._content("positive", 3).parts[0].text.startswith("t3") and mirrored.scores(*np.ones((2, 2), int))[0]


def test_contents_of_a_few_batches_are_held_at_once(tmp_path: Path, monkeypatch) -> None:
    alive, most = weakref.WeakSet(), []

    def judge(pairs: list[tuple[Content, Content]]) -> list[float]:
        most.append((len(pairs), len(alive)))
        return [float(target.parts[0].text[1:].split("|")[0]) for _, target in pairs]

    def counted(record, side: str) -> Content:
        content = side_of(record, side)
        alive.add(content)
        return content

    monkeypatch.setattr(teachers_module, "_RECORDS", 4)
    monkeypatch.setattr(teachers_module, "side_of", counted)
    teacher = PairTeacher("pairs", "pairs", lambda: judge, write(tmp_path, plain_pairs(40)), ("query", "positive"), 3)
    rows = np.arange(40)
    assert teacher.scores(rows, rows[::-1]).tolist() == rows[::-1].tolist()
    pairs, contents = np.max(most, axis=0)
    assert pairs == 3 and contents <= 2 * 3 + 4 and len(most) == 14


class Fixed:
    """A teacher that scores by a matrix, and counts what it was asked."""

    def __init__(self, name: str, scores_NN: np.ndarray) -> None:
        self.name = self.fingerprint = name
        self.matrix, self.asked = scores_NN, 0

    def scores(self, rows_P: np.ndarray, others_P: np.ndarray) -> np.ndarray:
        self.asked += len(rows_P)
        return self.matrix[rows_P, others_P].astype(np.float32)


def test_teachers_judge_what_is_mined(tmp_path: Path) -> None:
    """The lowest of two fused teachers among ten neighbours, less what either takes for correct, by a plain loop."""
    reader, rng = write(tmp_path, plain_pairs(30)), np.random.default_rng(0)
    judges = [Fixed(name, rng.random((30, 30))) for name in ("first", "second")]
    options = MiningOptions(count=2, depth=10, margin=None, selection="lowest", teacher_margin=0.9)
    mined = mine(model(), reader, options, tmp_path / "work", teachers=lambda *_: judges, chunk=7)
    query, target = vectors_of(reader)
    scores = query @ target.T
    np.fill_diagonal(scores, -2)
    taken = 0
    for place in range(30):
        near = np.argsort(-scores[place])[:10]
        wrong = [k for k in near if all(j.matrix[place, k] <= 0.9 * j.matrix[place, place] for j in judges)]
        taken += 10 - len(wrong)
        fused = {
            k: sum(1 / (61 + sum(j.matrix[place, o] > j.matrix[place, k] for o in wrong)) for j in judges)
            for k in wrong
        }
        order = sorted(wrong, key=lambda k: -fused[k])
        assert mined.rows[mined.list_of(place)].tolist() == order[::-1][:2]
    assert mined.dropped["teacher_margin"] == taken > 0 and mined.teachers == ("first", "second")
    assert np.allclose(mined.teacher_positives[1], np.diag(judges[1].matrix))
    own = np.repeat(mined.asked, mined.counts)
    assert np.allclose(mined.teacher_scores[0], judges[0].matrix[own, mined.rows])

    asked = judges[0].asked
    top = MiningOptions(count=1, depth=10, margin=None)  # another selection asks nobody again
    mine(model(), reader, top, tmp_path / "work", teachers=lambda *_: judges, chunk=7)
    assert judges[0].asked == asked == 30 + 300


def test_a_teacher_without_any_opinion_is_an_error(tmp_path: Path) -> None:
    reader = write(tmp_path, plain_pairs(5))
    nobody = Fixed("nobody", np.full((5, 5), np.nan))
    with pytest.raises(DataError, match="teacher nobody: has no score for any candidate of any"):
        mine(model(), reader, MiningOptions(), tmp_path / "work", teachers=lambda *_: [nobody])


def test_candidates_without_a_score_are_left_out(tmp_path: Path) -> None:
    reader = write(tmp_path, plain_pairs(12))
    scores = np.random.default_rng(0).random((12, 12))
    scores[:, ::2] = np.nan
    half = Fixed("half", scores)
    options = MiningOptions(count=9, margin=None)
    mined = mine(model(), reader, options, tmp_path / "work", teachers=lambda *_: [half])
    assert (mined.rows % 2 == 1).all() and mined.dropped["unscored"] > 0 and by_key(mined, reader)["r0"]
