"""Which of our prefixes an input of an mteb task takes.

Only tasks of text alone take one (paper section 4; media and texts beside media never do). Policies:

type        by the type of task, as published for the API; of retrieval of code "code retrieval", of our own suite what
            its tasks name. The figure of headlines
published   the per-task map that mteb runs Gemini Embedding 2 with, 61 of whose entries differ from the type's default
none        no prefix
a task      one prefix of our table for every task, as "clustering": what best-of-N is taken over
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from commonspace.errors import ConfigError
from commonspace.evaluation.mteb.heldout import own_prompt
from commonspace.prompts import PREFIXES

POLICIES = ("type", "published", "none")
SIDES = ("query", "task")  # which sides of retrieval take their prefix: queries alone, as in training, or documents too
Prompt = tuple[str | None, str | None]  # task and role of `commonspace.prompts.prefix`
_NO_PROMPT: Prompt = (None, None)
_SEARCH = "search result"
_OF_TYPE = {
    "Classification": "classification",
    "MultilabelClassification": "classification",
    "Regression": "classification",
    "PairClassification": "classification",
    "Clustering": "clustering",
    "STS": "sentence similarity",
    "BitextMining": "sentence similarity",
    "Summarization": "sentence similarity",
}
_OF_GOOGLE = {
    "RETRIEVAL_QUERY": _SEARCH,
    "QUESTION_ANSWERING": "question answering",
    "FACT_VERIFICATION": "fact checking",
    "CODE_RETRIEVAL_QUERY": "code retrieval",
    "CLASSIFICATION": "classification",
    "CLUSTERING": "clustering",
    "SEMANTIC_SIMILARITY": "sentence similarity",
}  # RETRIEVAL_DOCUMENT puts nothing before what is no document


def check_policy(policy: str, sides: str) -> None:
    """ConfigError for a policy or a choice of sides that there is not."""
    if policy not in (*POLICIES, *PREFIXES):
        raise ConfigError(f"prefixes={policy!r}: choose one of {', '.join((*POLICIES, *PREFIXES))}")
    if sides not in SIDES:
        raise ConfigError(f"prefix_policy={sides!r}: choose one of {', '.join(SIDES)}")


def is_of_text(metadata: Any) -> bool:
    """Whether a task is of text alone: no other takes a prefix."""
    return list(metadata.modalities) == ["text"]


def prompt_of(metadata: Any, side: str | None, policy: str, sides: str, known: Collection[str] = PREFIXES) -> Prompt:
    """Task and role of the prefix for one side of a task.

    metadata  mteb's `TaskMetadata`
    side      "query", "document" or None, where the task has no sides
    known     tasks of the model's own table: another one's prefix is left out
    """
    if policy == "none" or not is_of_text(metadata):
        return _NO_PROMPT
    task = _task(metadata, side, policy)
    role = "document" if side == "document" else "query"
    if task not in known or (role == "document" and sides == "query"):
        return _NO_PROMPT
    return task, role


def _task(metadata: Any, side: str | None, policy: str) -> str | None:
    if policy == "published":
        return _published(metadata, side)
    if policy != "type":
        return policy
    is_own, prompt = own_prompt(metadata)
    if is_own:
        return prompt
    if metadata.type in _OF_TYPE:
        return _OF_TYPE[metadata.type]
    return "code retrieval" if "Code retrieval" in (metadata.task_subtypes or ()) else _SEARCH


def _published(metadata: Any, side: str | None) -> str | None:
    from mteb.models.abs_encoder import get_prompt_name
    from mteb.models.model_implementations.google_gemini import GEMINI_EMBEDDING_2_PROMPTS
    from mteb.types import PromptType

    if side == "document":  # its form is the same whatever the query is for
        return _SEARCH
    name = get_prompt_name(GEMINI_EMBEDDING_2_PROMPTS, metadata, PromptType(side) if side else None)
    return _OF_GOOGLE.get(GEMINI_EMBEDDING_2_PROMPTS[name]) if name else None
