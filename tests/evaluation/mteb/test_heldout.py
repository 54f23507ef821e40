"""Our suite as mteb tasks: mteb's scores of a model are those of our own rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commonspace.evaluation.engine import evaluate
from commonspace.evaluation.mteb.heldout import heldout_tasks, revision_of, unfit
from commonspace.evaluation.mteb.model import MtebModel
from commonspace.evaluation.relevance import Relevance
from commonspace.evaluation.results import Scored
from commonspace.evaluation.suite import build_suite


def test_scores_are_those_of_our_own_rows(suite_data: Path, model: MtebModel, mteb: Any) -> None:
    suite = build_suite(suite_data / "mini")
    tasks, left_out = heldout_tasks(suite)
    rows = evaluate(model.embedder, suite, Scored("tiny", "model", prefix_policy="query"), draws=10).rows
    ours = {
        (row.task, row.direction, row.language if row.task == "crosslingual" else "all", row.metric): row.value
        for row in rows
        if row.suite == "heldout" and row.source == "all"
    }
    found = mteb.evaluate(model, tasks, cache=None, show_progress_bar=False, co2_tracker=False)
    compared = 0
    for task, result in zip(tasks, found.task_results, strict=True):
        name, direction = task.metadata.dataset["path"].split("/")[-1], _direction(task.metadata.name)
        for score in result.scores["test"]:
            language = "all" if score["hf_subset"] == "default" else score["hf_subset"]
            for metric, theirs in (("MRR@10", "mrr_at_10"), ("NDCG@10", "ndcg_at_10"), ("R@1", "hit_rate_at_1")):
                if (key := (name, direction, language, metric)) in ours:
                    assert score[theirs] == pytest.approx(ours[key], abs=1e-5), key
                    compared += 1
        assert result.get_score() == pytest.approx(
            sum(s["mrr_at_10"] for s in result.scores["test"]) / len(result.scores["test"])
        )
    assert compared >= 2 * 3 * 2 + 2 * 2, "both directions of captions and clips, summaries, and two languages"
    assert set(left_out) == {"document text->document", "video video->text", "video text->video"}
    assert "a document is several parts" in left_out["document text->document"]


def test_clips_that_may_sound_are_left_out_and_muted_ones_are_not(suite_data: Path) -> None:
    suite = build_suite(suite_data / "mini", tasks=["video"])
    assert {task.name: bool(unfit(task)) for task in suite.tasks} == {"video": True, "video_muted": False}


def test_metadata_name_languages_and_kinds(suite_data: Path, mteb: Any) -> None:
    tasks = {task.metadata.name: task.metadata for task in heldout_tasks(build_suite(suite_data / "mini"))[0]}
    assert tasks["heldout-crosslingual-en-to-xx"].eval_langs == {"de": ["deu"], "pt_BR": ["por"]}
    assert tasks["heldout-image_caption-text-to-image"].category == "t2i"
    assert tasks["heldout-image_caption-text-to-image"].type == "Any2AnyRetrieval"
    assert tasks["heldout-summary-text-to-text"].type == "Retrieval"
    assert {one.main_score for one in tasks.values()} == {"mrr_at_10"}


def test_the_revision_is_of_what_is_asked(suite_data: Path) -> None:
    """Another limit, split or right answer is another data set; the same shards elsewhere are the same."""
    (whole,) = build_suite(suite_data / "mini", tasks=["summary"]).tasks
    (fewer,) = build_suite(suite_data / "mini", tasks=["summary"], limit=4).tasks
    answers = Relevance(whole.relevance.starts, whole.relevance.items[::-1].copy())
    others = [
        whole,
        fewer,
        replace(whole, relevance=answers),
        replace(whole, gallery_digests=whole.gallery_digests + 1),
    ]
    assert len({revision_of(task) for task in others}) == 4
    assert revision_of(build_suite(suite_data / "mini", tasks=["summary"]).tasks[0]) == revision_of(whole)


def _direction(name: str) -> str:
    return name.split("-", 2)[2].replace("-to-", "->").replace("-and-", "+")
