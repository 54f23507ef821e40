"""Pages of mteb's figures: queries and pools beside them, no mean set beside one over other tasks, what is left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from commonspace.evaluation.mteb.heldout import heldout_tasks
from commonspace.evaluation.mteb.page import comparison_page, model_page
from commonspace.evaluation.mteb.sizes import size_of
from commonspace.evaluation.mteb.summary import write_side_by_side, write_summary
from commonspace.evaluation.suite import build_suite

COMMITTED = Path(__file__).parents[3] / "docs/results/mini"
ABOUT = {"model": "ours", "revision": "1", "suite": "heldout", "mteb": "2", "commit": "abc", "command": "made by this"}


def summary(scores: dict[str, float], of: int, left_out: dict[str, str] | None = None, **about: Any) -> dict[str, Any]:
    """A summary of tasks of one type, each of 40 queries and 60 items."""
    rows = [
        {"task": task, "type": "STS", "metric": "mrr_at_10", "score": value, "queries": 40, "pool": 60.0, "pools": 1}
        for task, value in scores.items()
    ]
    mean = sum(scores.values()) / len(scores)
    found = {"tasks": len(rows), "tasks_of_benchmark": of, "scores": rows, "means": {"Mean(Task)": mean, "STS": mean}}
    return {"prefixes": ["type"], "benchmarks": {"heldout": found}, "left_out": left_out or {}, **about}


def published(**values: float) -> list[dict[str, Any]]:
    return [{"benchmark": "heldout", "model": "peer", "values": {"Mean(Task)": 70.0, "STS": 71.0, **values}}]


def test_means_over_other_tasks_say_so(mteb: Any) -> None:
    """A column that lists no task is over the whole benchmark, one that lists some is over those."""
    half, whole = summary({"a": 0.5, "b": 0.7}, 4), summary({"a": 0.5, "b": 0.7}, 2)
    plain = "| mean | prefixes: type | peer |"
    assert "| mean | prefixes: type, over 2 tasks | peer, over all 4 tasks |" in model_page(half, ABOUT, published())
    assert "do not compare with ours" in model_page(half, ABOUT, published())
    assert plain in model_page(whole, ABOUT, published()) and "compare" not in model_page(whole, ABOUT, published())
    assert plain in model_page(half, ABOUT, published(a=1.0, b=2.0)), "asked for two tasks, and printed of those two"
    for more in (half, whole):
        assert "type, over 2 tasks | peer, over its 3 tasks |" in model_page(more, ABOUT, published(a=1, b=2, c=3))
    best = half["benchmarks"]["heldout"] | {"means_of_best_prefixes": {"Mean(Task)": 0.8, "STS": 0.8}}
    best["scores"] = [row | {"best": 0.8, "best_prefix": "none"} for row in best["scores"]]
    page = model_page(half | {"benchmarks": {"heldout": best}}, ABOUT, published())
    assert "| best prefix a task, over 2 tasks | peer, over all 4 tasks |" in page


def test_figures_stand_beside_their_queries_and_pools() -> None:
    made = summary({"a": 0.5, "b": 0.7}, 2)
    made["benchmarks"]["heldout"]["scores"][1] |= {"queries": 698, "pool": 57.9, "pools": 31}
    page = model_page(made, ABOUT, [])
    assert "| a | mrr_at_10 | 40 | 60 | 50.00 |" in page and "| b | mrr_at_10 | 698 | 58 (31 pools) | 70.00 |" in page
    both = comparison_page("heldout", [made | ABOUT, made | ABOUT | {"model": "peer"}], "../results.md")
    assert "| b | mrr_at_10 | 698 | 58 (31 pools) | **70.00** | **70.00** |" in both
    assert "no intervals; [the tables](../results.md) of `commonspace evaluate` have those" in both


def test_why_tasks_are_left_out_stands_side_by_side_too() -> None:
    reads_text = {"d": "needs image", "c": "needs image", "e": "needs audio"}
    models = {"minilm": reads_text, "e5": reads_text, "clip": {"e": "needs audio"}, "ours": {}}
    page = comparison_page(
        "heldout", [summary({"a": 0.5}, 4, why, **ABOUT | {"model": m}) for m, why in models.items()]
    )
    assert "| tasks measured |  |  |  | 1 of 4 | 1 of 4 | 1 of 4 | 1 of 4 |" in page
    told = page.partition("## Left out\n")[2]
    assert told == (
        "\nNot asked of minilm, e5 (tasks: 3):\n\n- needs audio: e\n- needs image: c, d\n"
        "\nNot asked of clip (tasks: 1):\n\n- needs audio: e\n"
    )


def test_figures_over_other_queries_are_not_compared() -> None:
    fewer = summary({"a": 0.9, "b": 0.6}, 2, **ABOUT | {"model": "fewer"})
    fewer["benchmarks"]["heldout"]["scores"][0] |= {"queries": 4, "pool": 6.0}
    page = comparison_page("heldout", [summary({"a": 0.5, "b": 0.7}, 2, **ABOUT), fewer])
    assert "| a | mrr_at_10 | 40 / 4 | 60 / 6 | 50.00 | 90.00 |" in page
    assert "| mean of the 1 that all have |  |  |  | **70.00** | 60.00 |" in page


def test_figures_that_stand_keep_who_made_them(tmp_path: Path) -> None:
    """Of a job that measured nothing new; another score or other weights are another's."""
    write_summary(tmp_path, "heldout", summary({"a": 0.5}, 2), ABOUT)
    later = ABOUT | {"commit": "def", "command": "made again"}
    expected = [({"a": 0.5}, {}, "abc"), ({"a": 0.5}, {"revision": "2"}, "def"), ({"a": 0.5, "b": 0.7}, {}, "def")]
    fewer = summary({"a": 0.5}, 2)
    fewer["benchmarks"]["heldout"]["scores"][0]["queries"] = 10
    for scores, other, commit in expected:
        write_summary(tmp_path, "heldout", summary({"a": 0.5}, 2), ABOUT)
        path = write_summary(tmp_path, "heldout", summary(scores, 2), later | other)
        assert json.loads(path.read_text())["commit"] == commit
        assert ("made by this" in path.with_suffix(".md").read_text()) == (commit == "abc")
    write_summary(tmp_path, "heldout", summary({"a": 0.5}, 2), ABOUT)
    path = write_summary(tmp_path, "heldout", fewer, later)
    assert json.loads(path.read_text())["commit"] == "def", "the same score over other queries is another figure"


def test_queries_and_items_are_counted(suite_data: Path, mteb: Any) -> None:
    """Ours in the suite, mteb's by its statistics; of a task of which mteb tells but a part, nothing."""
    suite = build_suite(suite_data / "mini", tasks=["summary", "crosslingual"])
    sizes = {task.metadata.name: size_of(task) for task in heldout_tasks(suite)[0]}
    assert sizes["heldout-summary-text-to-text"] == {"queries": 12, "pool": 12.0, "pools": 1}
    assert sizes["heldout-crosslingual-en-to-xx"] == {"queries": 40, "pool": 20.0, "pools": 2}
    retrieval, pairs, untold = mteb.get_tasks(tasks=["CosQA", "STS12", "BelebeleRetrieval"])
    assert size_of(retrieval) == {"queries": 500, "pool": 20604.0, "pools": 1}
    assert size_of(pairs) == {"queries": 3108, "pool": None, "pools": 1} and size_of(untold) == {}
    (ranked,) = mteb.get_tasks(tasks=["AlloprofReranking"])
    assert size_of(ranked)["pool"] < 100, "the few items that a query is given, not all of them"


def test_committed_pages_are_of_committed_summaries(tmp_path: Path) -> None:
    summaries = sorted((COMMITTED / "mteb").glob("*/heldout.summary.json"))
    (tmp_path / "mteb").mkdir()
    shutil.copy(COMMITTED / "results.md", tmp_path)
    for path in summaries:
        kept = json.loads(path.read_text())
        figures = {key: kept.pop(key) for key in ("prefixes", "benchmarks", "left_out")}
        made = write_summary(tmp_path / "mteb" / path.parent.name, "heldout", figures, kept)
        for suffix in (".json", ".md"):
            assert made.with_suffix(suffix).read_text() == path.with_suffix(suffix).read_text(), path
        assert all(row["queries"] and row["pool"] for row in figures["benchmarks"]["heldout"]["scores"]), path
    page = write_side_by_side(tmp_path / "mteb", "heldout")
    assert page and page.read_text() == (COMMITTED / "mteb/heldout.md").read_text()
