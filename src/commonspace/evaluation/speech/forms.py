"""The forms in which a clip may ask: as its sound, as what a decoder heard in it, as the words that were recorded.

Texts that are asked for are the same for all three, and of one text embedder a form is a model of its own in the rows:
MODEL_native, MODEL_cascade, MODEL_gold. A decoder hears English alone. Gold words are those of a decoder without fault:
what a cascade through this embedder could reach at most. In the language spoken they are the very text asked for, so
that they find it whatever the embedder does: gold is asked across languages only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from commonspace.content import Content
from commonspace.evaluation.comparison import Compared
from commonspace.evaluation.engine import Embeds, Evaluated, NearDuplicates, ranks_table
from commonspace.evaluation.intervals import DRAWS, holm, paired_difference
from commonspace.evaluation.ranking import rank_relevant, truncate
from commonspace.evaluation.results import Scored
from commonspace.evaluation.speech.clips import ENGLISH, Clip, Written
from commonspace.evaluation.speech.questions import CROSS, FROM_ENGLISH, IN_ENGLISH, TO_ENGLISH, Question
from commonspace.evaluation.summary import summarise

FORMS = NATIVE, CASCADE, GOLD = ("native", "cascade", "gold")
ASKED = {CASCADE: (IN_ENGLISH, FROM_ENGLISH), GOLD: (FROM_ENGLISH, TO_ENGLISH, CROSS)}  # native: everything


def column(model: str, form: str) -> str:
    """The name that rows of a form have."""
    return f"{model}_{form}"


@dataclass(frozen=True)
class Asking:
    """Who asks for what: all clips and texts, the questions made of them, and what decides their rows."""

    clips: Sequence[Clip]
    texts: Sequence[Written]
    questions: Sequence[Question]
    near_duplicates: NearDuplicates
    draws: int = DRAWS

    def queries(self, form: str, heard: Mapping[str, str]) -> list[Content | None]:
        """Every clip in a form; None for one that cannot ask. `heard` has transcripts by key of a clip."""
        if form == NATIVE:
            return [Content(clip.sound) for clip in self.clips]
        if form == GOLD:
            return [Content(clip.words) for clip in self.clips]
        return [Content(heard[clip.key]) if clip.language == ENGLISH else None for clip in self.clips]

    def evaluate(
        self, model: Embeds, scored: Scored, forms: Sequence[str], heard: Mapping[str, str], prompt: str | None
    ) -> dict[str, Evaluated]:
        """{form: rows and ranks} of one embedder.

        prompt  task of the prefix that texts which ask take, and those asked for where `scored` says prefix_policy=task
        """
        on_texts = (prompt, "document") if prompt and scored.prefix_policy == "task" else (None, None)
        item_IE = _embed(model, [Content(text.text) for text in self.texts], *on_texts)
        found = {}
        for form in forms:
            on_queries = (prompt, "query") if prompt and form != NATIVE else (None, None)
            query_CE = _embed(model, self.queries(form, heard), *on_queries)
            found[form] = self._rank(query_CE, item_IE, replace(scored, model=column(scored.model, form)), form)
        return found

    def _rank(self, query_CE: torch.Tensor, item_IE: torch.Tensor, scored: Scored, form: str) -> Evaluated:
        tables = []
        for question in self.questions:
            task = question.task
            if task.name in ASKED.get(form, (task.name,)):
                sides = query_CE[question.clips], item_IE[question.texts]
                ranks = rank_relevant(*sides, task.relevance, task.query_groups, task.gallery_groups)
                tables.append(ranks_table(task, ranks, scored, item_IE.shape[1], self.near_duplicates))
        table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
        return Evaluated(summarise(table, scored, self.draws) if tables else [], table)


def _embed(
    model: Embeds, contents: Sequence[Content | None], task: str | None = None, role: str | None = None
) -> torch.Tensor:
    """Unit vectors [N, E], each distinct content embedded once; NaN, which ranking refuses, where there is none."""
    distinct = {content.digest(): content for content in contents if content is not None}
    vectors_DE = model.embed(list(distinct.values()), task=task, role=role, progress=True)
    places = {digest: row for row, digest in enumerate(distinct)}
    out_NE = torch.full((len(contents), vectors_DE.shape[1]), torch.nan)
    there = [row for row, content in enumerate(contents) if content is not None]
    rows = np.array([places[content.digest()] for content in contents if content is not None])
    out_NE[there] = truncate(torch.as_tensor(vectors_DE[rows]).float(), None)
    return out_NE


def compare_forms(native: Evaluated, others: Mapping[str, Evaluated], model: str, draws: int = DRAWS) -> list[Compared]:
    """Native less each of the other columns, question by question, Holm over the questions of a pair.

    Over every query without near-duplicates, concepts resampled.

    others  {column: what it was evaluated to}: cascades and gold words, of this model and of the raw text encoder
    """
    found = []
    for metric in ("MRR@10", "R@1"):
        for name, other in others.items():
            family = [
                Compared(task, direction, metric, "no_near_duplicates", column(model, NATIVE), name,
                         float(first.mean()), float(second.mean()), paired_difference(first, second, units, draws))
                for task, direction, units, first, second in _paired(native.ranks, other.ranks, metric)
            ]  # fmt: skip
            adjusted = holm([one.difference.p for one in family])
            found += [replace(one, p_holm=p) for one, p in zip(family, adjusted, strict=True)]
    return found


def _paired(
    first: pd.DataFrame, second: pd.DataFrame, metric: str
) -> Iterator[tuple[str, str, list[str], np.ndarray, np.ndarray]]:
    """(task, direction, concepts, values [1, Q] of both) of every question that both were asked."""
    if second.empty:
        return
    for (task, direction), part in second[second["near_duplicate"] == ""].groupby(["task", "direction"], sort=False):
        other = first[first["task"] == task].set_index("query").loc[part["query"]]
        own, others = (one[metric].to_numpy(np.float64)[None] for one in (other, part))
        yield task, direction, part["concept"].tolist(), own, others
