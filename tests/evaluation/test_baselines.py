"""Chance is exact, BM25 finds words in every script, the raw encoder sees texts alone."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from commonspace.content import Content, Document
from commonspace.errors import ConfigError
from commonspace.evaluation.baselines import (
    FAMILIES,
    RawText,
    bm25,
    chance,
    chance_values,
    dev_score,
    late_fusion,
    raw_text,
    text_tasks,
    tuned_settings,
)
from commonspace.evaluation.bm25 import score_pool, tokenise
from commonspace.evaluation.metrics import per_query
from commonspace.evaluation.ranking import Ranks
from commonspace.evaluation.specs import COMPOSED
from commonspace.evaluation.suite import build_suite
from tests.evaluation.made import MadeFeatures, captions, picture, record, write


@pytest.mark.parametrize(("pool", "correct"), [(1, 1), (4, 1), (6, 2), (6, 6), (7, 3)])
def test_chance_equals_the_mean_over_all_orders(pool: int, correct: int) -> None:
    orders = list(permutations(range(pool)))
    ranks = np.array([sorted(order[item] + 1 for item in range(correct)) for order in orders])
    starts = np.arange(len(orders) + 1) * correct
    expected = {name: values.mean() for name, values in per_query(Ranks(starts, ranks.ravel())).items()}
    found = chance_values(np.array([pool]), np.array([correct]))
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, abs=1e-12), name


def test_chance_in_a_large_pool() -> None:
    values = chance_values(np.array([1000, 1000]), np.array([1, 5]))
    np.testing.assert_allclose(values["R@1"], [0.001, 0.005])
    np.testing.assert_allclose(values["R@5"][0], 0.005)
    np.testing.assert_allclose(values["MRR@10"][0], sum(1 / k for k in range(1, 11)) / 1000)


def test_rows_of_chance_have_no_interval(tier: Path) -> None:
    done = chance(build_suite(tier))
    assert done.rows and all(row.ci95 is None and row.dim is None for row in done.rows)
    assert dev_score(done) == pytest.approx(
        np.mean([r.value for r in done.rows if r.metric == "MRR@10" and r.suite == "heldout" and r.source == "all"
                 and not r.task.endswith("_languages")])
    )  # fmt: skip


def test_words_of_code_and_of_unspaced_scripts() -> None:
    assert tokenise("The Fox") == ["the", "fox"]
    assert tokenise("isPrime(is_prime)") == ["isprime", "is", "prime", "is_prime", "is", "prime"]
    assert tokenise("赤い花") == ["赤い", "い花"] and tokenise("花") == ["花"]
    assert tokenise("\uff26\uff2f\uff38") == ["fox"]


def test_bm25_prefers_the_document_that_holds_the_words() -> None:
    items = [Content(Document("A page on pruning roses.", picture("rose"))), Content("Roses"), Content(picture("x"))]
    scores = score_pool([Content("pruning roses"), Content("roses"), Content("unheard")], items)
    assert scores.argmax(1).tolist()[:2] == [0, 1] and (scores[:, 2] == 0).all() and (scores[2] == 0).all()
    assert (score_pool([Content("a")], [Content(picture("x"))]) == 0).all()


def test_bm25_rows_are_of_text_tasks_alone(tier: Path) -> None:
    rows = [
        record(f"k{i}", "summary", f"thing {i}", Content(f"thing {i}"), ("en", Content(f"A thing of number {i} here")))
        for i in range(12)
    ]
    write(tier, "summary", rows)
    suite = build_suite(tier)
    done = bm25(suite)
    assert {row.task for row in done.rows} == {"summary"} == {task.name for task in text_tasks(suite)}
    assert next(row.value for row in done.rows if row.metric == "R@1") == 1.0


def test_a_suite_without_texts_has_no_rows_of_text_baselines(tier: Path) -> None:
    suite = build_suite(tier)
    suite = replace(suite, tasks=tuple(task for task in suite.tasks if task not in text_tasks(suite)))
    assert suite.tasks and bm25(suite).rows == raw_text(suite, MadeFeatures()).rows == []


def test_the_raw_encoder_sees_texts_with_its_own_prefixes() -> None:
    seen: list[str] = []

    def encode(contents) -> np.ndarray:
        seen.extend(content.parts[0].text for content in contents)
        return np.ones((len(contents), 2), dtype=np.float32)

    model = RawText(encode, ("query: ", "passage: "))
    model.embed([Content("a", picture("x"), "b")], task="e5", role="query")
    model.embed([Content(Document("c", picture("x"), "d"))], task="e5", role="document")
    assert seen == ["query: a\nb", "passage: c\nd"]


def test_families_share_no_task_but_where_they_are_two_forms_of_one() -> None:
    answers = [(task, family.fusion) for family in FAMILIES for task in family.answers]
    assert len(set(answers)) == len(answers)
    composed = {family.trains for family in FAMILIES if family.name == "composed"}
    assert composed == {("stamp_language", "emoji_language")}, "trained on what it is asked, food apart"
    assert all(set(family.answers) == set(COMPOSED) for family in FAMILIES if family.name == "composed")
    assert [len(family.grid(18)) for family in FAMILIES] == [18, 18, 2, 2, 18, 18]
    assert {settings.batch_size for family in FAMILIES if family.small for settings in family.grid(8)} == {256}
    with pytest.raises(ConfigError, match="tries=19"):
        FAMILIES[0].grid(19)


def test_late_fusion_is_tuned_on_dev_and_scored_once_a_seed(tier: Path, tmp_path: Path) -> None:
    write(tier, "image_caption", captions(), "train")
    write(tier, "image_caption", captions(), "dev")
    log = tmp_path / "tries.jsonl"
    family = replace(FAMILIES[0], small=True)
    found = late_fusion(
        family,
        captions(),
        MadeFeatures(),
        build_suite(tier, "dev"),
        build_suite(tier),
        seeds=(3, 4),
        log=log,  # type: ignore[arg-type]
    )
    done = found.scored
    assert len(found.models) == 2 and found.models[0].embed([Content(picture("fruit a"))]).shape == (1, 384)
    assert [part.rows[0].seed for part in done] == [3, 4] and {row.model for row in done[0].rows} == {"late_fusion"}
    tried = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(tried) == 2 and tried[0]["dev"] >= tried[1]["dev"]
    best = next(r.value for r in done[0].rows if (r.metric, r.task, r.suite) == ("MRR@10", "image_caption", "heldout"))
    assert best > 0.9, "it has seen these very pairs"
    log.unlink()
    given = tuned_settings({"image": {"hidden": 16, "steps": 1}})["image"]
    dev = build_suite(tier, "dev")
    known = late_fusion(family, captions(), MadeFeatures(), dev, build_suite(tier), settings=given, seeds=(3,), log=log)  # type: ignore[arg-type]
    assert len(known.models) == 1 and not log.exists(), "nothing was tuned"
    assert late_fusion(FAMILIES[1], captions(), MadeFeatures(), build_suite(tier), build_suite(tier)).scored == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given, message",
    [({"pictures": {}}, "tuned.pictures: no family"), ({"speech": {"depth": 2}}, "settings are learning")],
)
def test_a_tuning_of_something_else_is_refused(given: dict, message: str) -> None:
    assert tuned_settings({"composed_mlp": {"hidden": 9}})["composed_mlp"].hidden == 9
    with pytest.raises(ConfigError, match=message):
        tuned_settings(given)
