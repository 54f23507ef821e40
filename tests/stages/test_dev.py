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
