from __future__ import annotations

import pytest

from commonspace.errors import ConfigError
from commonspace.prompts import PREFIXES, prefix


def test_published_prefixes():
    assert prefix("search result", "query") == "task: search result | query: "
    assert prefix("code retrieval", "document") == "title: none | text: "
    assert prefix("clustering", "query") == prefix("clustering", "document") == "task: clustering | query: "
    assert prefix(None, None) == ""
    assert len(PREFIXES) == 7


@pytest.mark.parametrize(
    ("task", "role", "message"),
    [
        ("serch result", "query", "task='serch result'; known are search result"),
        ("search result", "passage", "use 'query' or 'document'"),
        ("search result", None, "role=None"),
        (None, "query", "no effect without a task"),
    ],
)
def test_what_has_no_prefix_is_refused(task, role, message):
    with pytest.raises(ConfigError, match=message):
        prefix(task, role)
