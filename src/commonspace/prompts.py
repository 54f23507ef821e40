"""The published task prefixes of Gemini Embedding 2 and EmbeddingGemma, for contents of text alone.

A query says what it is for, a document gives its title; tasks that compare like with like write both sides alike.
Media, and texts beside media, take no prefix (paper section 3.2, and the model card).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from commonspace.errors import ConfigError

Role = Literal["query", "document"]
Prefixes = Mapping[str, Mapping[str, str]]

_DOCUMENT = "title: none | text: "
_SEARCHES = ("search result", "question answering", "fact checking", "code retrieval")
_SYMMETRIC = ("classification", "clustering", "sentence similarity")

PREFIXES: dict[str, dict[str, str]] = {
    **{task: {"query": f"task: {task} | query: ", "document": _DOCUMENT} for task in _SEARCHES},
    **{task: dict.fromkeys(("query", "document"), f"task: {task} | query: ") for task in _SYMMETRIC},
}


def prefix(task: str | None, role: str | None, prefixes: Prefixes = PREFIXES) -> str:
    """What stands before a text of `role` ("query" or "document") in `task`; without a task nothing.

    Raises ConfigError for a task or role that the table does not name, and for a task without a role.
    """
    if task is None:
        if role is not None:
            raise ConfigError(f"role={role!r} has no effect without a task; known are {', '.join(prefixes)}")
        return ""
    if task not in prefixes:
        raise ConfigError(f"no prefix is known for task={task!r}; known are {', '.join(prefixes)}")
    if role not in prefixes[task]:
        raise ConfigError(f"role={role!r} of task={task!r}: use {' or '.join(map(repr, prefixes[task]))}")
    return prefixes[task][role]
