"""BM25 over the texts of a pool: what matching words alone gives on text, code and document tasks."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import bm25s
import numpy as np

from commonspace.content import Content
from commonspace.evaluation.frozen import texts_of
from commonspace.evaluation.ranking import Ranks, rank_scores
from commonspace.evaluation.suite import EvalTask

_WORD = re.compile(r"\w+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Scripts written without spaces: words cannot be told apart by rule, so pairs of characters are used.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+"
)


def tokenise(text: str, grams: int = 2) -> list[str]:
    """Words casefolded after NFKC, names of code also in their pieces, unspaced scripts as character n-grams."""
    tokens: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text)):
        spaced = _UNSPACED.sub(" ", word)
        for run in _UNSPACED.findall(word):
            tokens += [run[start : start + grams] for start in range(max(1, len(run) - grams + 1))]
        for whole in spaced.split():
            pieces = [piece for part in whole.split("_") for piece in _CAMEL.split(part) if piece]
            tokens.append(whole.casefold())
            tokens += [piece.casefold() for piece in pieces] if len(pieces) > 1 else []
    return tokens


def score_pool(queries: Sequence[Content], items: Sequence[Content]) -> np.ndarray:
    """BM25 scores float32 [Q, G] (k1 1.5, b 0.75, Lucene's form); items without words score 0."""
    corpus = [tokenise(" ".join(texts_of(item))) for item in items]
    if not any(corpus):
        return np.zeros((len(queries), len(items)), dtype=np.float32)
    # An empty item would be dropped from the index; a token no query has keeps its place.
    index = bm25s.BM25()
    index.index([tokens or ["\x00"] for tokens in corpus], show_progress=False)
    known = index.vocab_dict
    scores = np.zeros((len(queries), len(items)), dtype=np.float32)
    for row, query in enumerate(queries):
        tokens = [token for token in tokenise(" ".join(texts_of(query))) if token in known]
        if tokens:
            scores[row] = index.get_scores(tokens)
    return scores


def bm25_ranks(task: EvalTask) -> Ranks:
    """Ranks of a task's correct items by BM25, groups apart."""

    def scores(queries: np.ndarray, items: np.ndarray) -> np.ndarray:
        return score_pool([task.queries[row] for row in queries], [task.gallery[row] for row in items])

    return rank_scores(scores, task.relevance, task.query_groups, task.gallery_groups)
