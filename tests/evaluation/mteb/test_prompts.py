"""Which prefix an input of an mteb task takes."""

from __future__ import annotations

from typing import Any

import pytest

from commonspace.errors import ConfigError
from commonspace.evaluation.mteb.prompts import check_policy, prompt_of
from commonspace.prompts import PREFIXES, prefix


@pytest.mark.parametrize(
    "task, side, policy, sides, text",
    [
        ("ArguAna", "query", "type", "query", "task: search result | query: "),
        ("ArguAna", "document", "type", "query", ""),
        ("ArguAna", "document", "type", "task", "title: none | text: "),
        ("ArguAna", "query", "published", "query", "task: fact checking | query: "),
        ("ArguAna", "query", "none", "task", ""),
        ("ArguAna", "query", "clustering", "query", "task: clustering | query: "),
        ("StackOverflowQA", "query", "published", "query", "task: question answering | query: "),
        ("NFCorpus", "query", "published", "query", "task: search result | query: "),
        ("NFCorpus", "document", "published", "task", "title: none | text: "),
        ("AppsRetrieval", "query", "type", "query", "task: code retrieval | query: "),
        ("TwitterURLCorpus", None, "type", "query", "task: classification | query: "),
        ("TwitterURLCorpus", None, "published", "query", "task: sentence similarity | query: "),
        ("FinParaSTS", None, "published", "query", ""),
        ("STS12", None, "type", "query", "task: sentence similarity | query: "),
        ("BUCC.v2", None, "type", "query", "task: sentence similarity | query: "),
        ("PoemSentimentClassification", None, "type", "query", "task: classification | query: "),
        ("RuBQReranking", "query", "type", "query", "task: search result | query: "),
        ("Flickr30kT2IRetrieval", "query", "type", "task", ""),
        ("BeijingOpera", None, "clustering", "task", ""),
    ],
)
def test_prefix_of(task: str, side: str | None, policy: str, sides: str, text: str, mteb: Any) -> None:
    metadata = mteb.get_task(task).metadata
    assert prefix(*prompt_of(metadata, side, policy, sides)) == text


def test_a_prefix_that_the_model_has_not_learnt_is_left_out(mteb: Any) -> None:
    metadata = mteb.get_task("STS12").metadata
    assert prompt_of(metadata, None, "type", "query", {"search result"}) == (None, None)


def test_unknown_policies_are_refused() -> None:
    for policy in ("type", "published", "none", *PREFIXES):
        check_policy(policy, "query")
    with pytest.raises(ConfigError, match="prefixes='types': choose one of type, published, none, search result"):
        check_policy("types", "query")
    with pytest.raises(ConfigError, match="prefix_policy='none': choose one of query, task"):
        check_policy("type", "none")
