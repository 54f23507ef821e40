"""An evaluation end to end: known models get known figures, contents are embedded once, rows come back from disk."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from commonspace.content import Text
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.engine import Evaluated, evaluate, save
from commonspace.evaluation.results import Row, Scored, read_all, read_ranks, read_rows
from commonspace.evaluation.suite import build_suite
from commonspace.evaluation.summary import headline
from tests.evaluation.made import FRUITS, HashModel


def find(done: Evaluated, **wanted: object) -> Row:
    found = [row for row in done.rows if all(getattr(row, name) == value for name, value in wanted.items())]
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
def oracle() -> HashModel:
    """Knows every fruit by its name or its file, whatever the language."""

    def meaning(content) -> str:
        part = content.parts[0]
        text = part.text if isinstance(part, Text) else part.read_bytes().decode("latin1")
        return next((fruit for fruit in FRUITS if text.endswith(fruit)), text)

    return HashModel(meaning)


def test_a_perfect_model_and_a_constant_one(tier: Path, oracle: HashModel, constant: HashModel) -> None:
    suite = build_suite(tier, tasks=["image_caption"])
    wanted = {"task": "image_caption", "direction": "image->text", "subset": "all", "suite": "heldout"}
    best = find(evaluate(oracle, suite, Scored("oracle", "baseline")), metric="R@1", **wanted)
    worst = find(evaluate(constant, suite, Scored("constant", "baseline")), metric="MRR@10", **wanted)
    assert (best.value, best.queries, best.pool, best.language, best.dim) == (1.0, 26, 27, "en", 32)
    assert worst.value == 0.0 and worst.ci95 == (0.0, 0.0)


def test_each_content_is_embedded_once_per_prefix(tier: Path, blind: HashModel) -> None:
    suite = build_suite(tier)
    digests = {int(d) for task in suite.tasks for d in (*task.query_digests, *task.gallery_digests)}
    evaluate(blind, suite, Scored("blind", "baseline"))
    assert blind.calls == len(digests)
    blind.calls = 0
    suite = replace(suite, tasks=tuple(replace(task, prompt="search result") for task in suite.tasks))
    evaluate(blind, suite, Scored("blind", "baseline", prefix_policy="task"))
    assert blind.calls > len(digests)
    with pytest.raises(ConfigError, match="prefix_policy"):
        evaluate(blind, suite, Scored("blind", "baseline", prefix_policy="best"))


def test_rows_by_language_size_and_subset(tier: Path, oracle: HashModel) -> None:
    suite = build_suite(tier)
    task = suite.task("image_caption", "image->text")
    bad = {int(task.query_digests[3]): "image", int(task.targets[5]): "text"}
    done = evaluate(oracle, suite, Scored("m", "soup", seed=1), dims=(8, 32), near_duplicates=bad)
    wanted = {"task": "image_caption", "direction": "image->text", "suite": "heldout", "metric": "R@1"}
    assert find(done, subset="no_near_duplicates", dim=32, **wanted).queries == 24
    assert find(done, subset="all", dim=8, **wanted).queries == 26
    assert find(done, subset="all", dim=32, **{**wanted, "suite": "heldout_every_query"}).queries == 27
    french = find(
        done, subset="all", language="fr", **{**wanted, "task": "image_caption_languages", "metric": "MRR@10"}
    )
    assert (french.queries, french.pool, french.value) == (26, 26, 1.0)
    assert find(done, subset="no_near_duplicates", dim=32, **wanted).pool == 27, "filters never drop gallery items"


def test_small_sizes_score_worse_here(tier: Path, blind: HashModel) -> None:
    done = evaluate(blind, build_suite(tier), Scored("blind", "baseline"), dims=(32, 4))
    assert set(done.ranks["dim"]) == {4, 32}
    with pytest.raises(DataError, match="dim=64"):
        evaluate(blind, build_suite(tier), Scored("blind", "baseline"), dims=(64,))


def test_rows_and_ranks_come_back(tier: Path, tmp_path: Path, blind: HashModel) -> None:
    suite = build_suite(tier, tasks=["image_caption"])
    parts = [evaluate(blind, suite, Scored("blind", "baseline", seed=seed)) for seed in (0, 1)]
    path = save(tmp_path / "results", parts)
    rows = read_rows(path)
    assert rows == read_all(tmp_path / "results") and {row.seed for row in rows} == {0, 1}
    assert " ".join(field.name for field in fields(Row)) == (
        "suite task direction split subset language source metric value ci95 queries pool dim precision prefix_policy "
        "model stage seed run_id commit command"
    )
    table = read_ranks(tmp_path / "results", "blind")
    asked = ("image_caption", "image->text", 0)
    chosen = (table["task"] == asked[0]) & (table["direction"] == asked[1]) & (table["seed"] == asked[2])
    one = headline(table[chosen])
    row = next(r for r in rows if (r.task, r.direction, r.seed) == asked and r.metric == "MRR@10")
    assert one["MRR@10"].mean() == pytest.approx(row.value, abs=1e-6)
    path.write_text('{"suite": "heldout"}\n')
    with pytest.raises(DataError, match=r"blind\.jsonl:1"):
        read_rows(path)
    with pytest.raises(DataError, match="evaluate the model again"):
        read_ranks(tmp_path, "nobody")


def test_a_model_that_loses_a_row_is_refused(tier: Path, blind: HashModel) -> None:
    class Short(HashModel):
        def embed(self, contents, **options) -> np.ndarray:
            return super().embed(contents, **options)[:-1]

    with pytest.raises(DataError, match="vectors for"):
        evaluate(Short(blind.meaning), build_suite(tier), Scored("short", "baseline"))


def test_rows_of_quantised_vectors_follow_and_leave_the_others_alone(tier: Path, oracle: HashModel) -> None:
    suite, forms = build_suite(tier), ["int8", "binary", "binary_float", "binary_int8"]
    plain = evaluate(oracle, suite, Scored("m", "soup", commit="c"), dims=(8, 32), draws=20)
    done = evaluate(oracle, suite, Scored("m", "soup", commit="c"), dims=(8, 32), draws=20, quantised=forms, rescored=5)
    assert done.rows[: len(plain.rows)] == plain.rows and done.ranks.equals(plain.ranks)
    beside = done.rows[len(plain.rows) :]
    assert {row.precision for row in beside} == {"int8", "binary", "binary_float@5", "binary_int8@5"}
    assert len(beside) == 4 * len(plain.rows)
    wanted = {"task": "image_caption", "direction": "image->text", "suite": "heldout", "subset": "all", "dim": 32}
    assert find(done, precision="binary_float@5", metric="R@1", **wanted).value == 1.0
    with pytest.raises(ConfigError, match="int4"):
        evaluate(oracle, suite, Scored("m", "soup"), quantised=["int4"])


def test_rescoring_every_item_is_the_float_ranking(tier: Path, blind: HashModel) -> None:
    suite = build_suite(tier, tasks=["image_caption"])
    done = evaluate(blind, suite, Scored("m", "soup"), draws=20, quantised=["binary_float"], rescored=1000)
    half = len(done.rows) // 2
    for row, other in zip(done.rows[:half], done.rows[half:], strict=True):
        assert replace(other, precision="float32") == row
