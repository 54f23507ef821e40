"""Dev retrieval: what it scores, what it prefixes, and that held-out data is refused."""

from pathlib import Path

import pytest

from commonspace import Content
from commonspace.errors import DataError
from commonspace.evaluation.suite import build_suite
from commonspace.stages.dev import DevRetrieval
from tests.evaluation.made import record, write
from tests.models.tiny import WORDS, tiny_embedder


@pytest.fixture
def tier(tmp_path: Path) -> Path:
    records = [
        record(f"s{i}", "summary", f"{word} concept", Content(f"query {word}"), ("en", Content(f"text {word}")))
        for i, word in enumerate(WORDS[:6])
    ]
    for split in ("dev", "heldout"):
        write(tmp_path, "summary", records, split)
    return tmp_path


def test_scores_lie_in_range_and_their_mean_is_over_tasks(tier):
    embedder = tiny_embedder()
    scores = DevRetrieval(build_suite(tier, "dev"), embedder.processor).scores(embedder)
    assert scores["mean"] == scores["summary text->text"]
    assert 0 < scores["mean"] <= 1 and scores["summary text->text gap"] >= 0
    assert not embedder.training


def test_queries_alone_take_the_prefix_as_in_training(tier):
    embedder, asked = tiny_embedder(), []

    def processor(content, task=None, role=None):
        asked.append((content.parts[0].text, task, role))
        return embedder.processor(content, task=task, role=role)

    DevRetrieval(build_suite(tier, "dev"), processor)
    assert {(task, role) for text, task, role in asked if text.startswith("query")} == {("search result", "query")}
    assert {(task, role) for text, task, role in asked if text.startswith("text")} == {(None, None)}


def test_held_out_data_chooses_nothing(tier):
    with pytest.raises(DataError, match="held-out"):
        DevRetrieval(build_suite(tier, "heldout"), tiny_embedder().processor)


def test_the_shape_of_the_space_is_taken_beside_the_scores(tier):
    """As evaluation finds it for the same vectors, where no query has a prefix."""
    from dataclasses import replace

    from commonspace.evaluation.geometry import geometry, summary

    embedder, suite = tiny_embedder(), build_suite(tier, "dev")
    bare = replace(suite, tasks=tuple(replace(task, prompt=None) for task in suite.tasks))
    dev = DevRetrieval(bare, embedder.processor)
    logged = dev.logged(dev.scores(embedder))
    expected = summary(geometry(embedder, bare))
    found = {name.removeprefix("geometry/"): value for name, value in logged.items() if name.startswith("geometry/")}
    assert found.keys() == expected.keys() and "alignment" in found
    assert all(found[name] == pytest.approx(value, abs=1e-5) for name, value in expected.items())
    assert logged["dev/mean"] == dev.scores(embedder)["mean"]
