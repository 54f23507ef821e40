"""Rows to measure a model against: chance, BM25, the raw text encoder, late fusion.

Late fusion is one specialist a family of tasks, the strongest form it has: each is trained on that family's rows alone
and asked that family's questions alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import gammaln

from commonspace.content import Content
from commonspace.data.sample import Record
from commonspace.errors import ConfigError
from commonspace.evaluation.bm25 import bm25_ranks
from commonspace.evaluation.engine import Evaluated, NearDuplicates, evaluate, ranks_table, task_table
from commonspace.evaluation.frozen import FrozenFeatures, texts_of
from commonspace.evaluation.intervals import DRAWS
from commonspace.evaluation.late_fusion import Fusion, LateFusion, TrainingRows, train_heads, training_rows
from commonspace.evaluation.late_fusion_grid import COMPOSED_GRID, GRID, SMALL_GRID, Settings
from commonspace.evaluation.results import Scored, current_commit
from commonspace.evaluation.suite import EvalTask, Suite
from commonspace.evaluation.summary import summarise

TEXT_TASKS = ("crosslingual", "summary", "recipe", "code", "document", "document_part")


@dataclass(frozen=True)
class Family:
    """Tasks one late-fusion specialist answers: `trains` are shards it trains on, `answers` tasks of the suite.

    `small` families have few rows and are reported, not gated: batches of 256, and two tries at most.
    """

    name: str
    trains: tuple[str, ...]
    answers: tuple[str, ...]
    fusion: Fusion = "single"
    small: bool = False

    @property
    def label(self) -> str:
        """Its name in `tuned`: of a fusion of parts with its form."""
        return self.name if self.fusion == "single" else f"{self.name}_{self.fusion}"

    def grid(self, tries: int) -> tuple[Settings, ...]:
        """The settings tuned over, in order."""
        if not 1 <= tries <= len(GRID):
            raise ConfigError(f"tries={tries}: the baseline's grid has 1 to {len(GRID)} settings")
        if self.fusion != "single":
            return COMPOSED_GRID[:tries]
        return (SMALL_GRID if self.small else GRID)[:tries]


_PICTURES = ("image_caption", "image_caption_languages", "painting", "fish", "astronomy", "constellation", "sketch")
_COMPOSED = ("stamp_language", "emoji_language")
FAMILIES: tuple[Family, ...] = (
    Family("image", ("image_caption",), _PICTURES),
    Family("speech", ("speech",), ("speech", "speech_languages")),
    Family("sound", ("sound",), ("sound",), small=True),
    Family("video", ("video",), ("video", "video_muted", "video_sound", "video_sound_muted"), small=True),
    Family("composed", _COMPOSED, (*_COMPOSED, "food"), "sum"),
    Family("composed", _COMPOSED, (*_COMPOSED, "food"), "mlp"),
)
MODEL_OF_FUSION = {"single": "late_fusion", "sum": "late_fusion_sum", "mlp": "late_fusion_mlp"}


def chance_values(pools: np.ndarray, correct: np.ndarray) -> dict[str, np.ndarray]:
    """Exact expectation of each metric for a random order, {metric: float64 [Q]}.

    pools [Q] items and correct [Q] right ones among them. P(no right one in the first k) = C(G-R, k) / C(G, k).
    """
    k_K = np.arange(11)
    wrong_Q1 = (pools - correct)[:, None]
    possible_QK = k_K <= wrong_Q1
    left_QK = np.where(possible_QK, wrong_Q1 - k_K, 0)
    log_miss_QK = (
        gammaln(wrong_Q1 + 1)
        - gammaln(left_QK + 1)
        - gammaln(pools[:, None] + 1)
        + gammaln(np.maximum(pools[:, None] - k_K, 0) + 1)
    )
    miss_QK = np.where(possible_QK, np.exp(log_miss_QK), 0.0)  # [:, k]: no right item among the first k
    places = np.arange(1, 11)
    seen_QP = places <= pools[:, None]  # a pool of fewer than ten has no tenth place
    discounts = 1 / np.log2(places + 1)
    ideal_Q = np.cumsum(discounts)[np.minimum(correct, 10) - 1]
    return {
        "R@1": 1 - miss_QK[:, 1],
        "R@5": 1 - miss_QK[:, 5],
        "NDCG@10": (correct / pools) * (seen_QP * discounts).sum(1) / ideal_Q,
        "MRR@10": ((miss_QK[:, :-1] - miss_QK[:, 1:]) / places).sum(1),
    }


def chance(suite: Suite, near_duplicates: NearDuplicates | None = None) -> Evaluated:
    """What a random order gives, by formula; rows carry no interval, for nothing was drawn."""
    scored = Scored("chance", "baseline", commit=current_commit())
    tables = []
    for task in suite.tasks:
        table = task_table(task, scored, None, near_duplicates)
        table["rank"] = (task.pools + 1) / (task.relevance.counts + 1)
        tables.append(table.assign(**chance_values(task.pools, task.relevance.counts)))
    table = pd.concat(tables, ignore_index=True)
    return Evaluated([replace(row, ci95=None) for row in summarise(table, scored, draws=1)], table)


def text_tasks(suite: Suite) -> list[EvalTask]:
    """The tasks a model of text alone can be asked; of documents it sees the text."""
    return [task for task in suite.tasks if task.name in TEXT_TASKS]


def bm25(suite: Suite, near_duplicates: NearDuplicates | None = None, draws: int = DRAWS) -> Evaluated:
    """BM25 on the text, code and document tasks."""
    scored = Scored("bm25", "baseline", commit=current_commit())
    tables = [ranks_table(task, bm25_ranks(task), scored, None, near_duplicates) for task in text_tasks(suite)]
    if not tables:
        return Evaluated([], pd.DataFrame())
    table = pd.concat(tables, ignore_index=True)
    return Evaluated(summarise(table, scored, draws), table)


class RawText:
    """A text encoder as it came, as an embedder: contents are their texts, with the encoder's own two prefixes.

    `encode` maps texts to vectors [N, E], as in `lambda texts: features.vectors(texts, "text")`.
    """

    def __init__(self, encode: Callable[[Sequence[Content]], np.ndarray], prefixes: tuple[str, str] = ("", "")) -> None:
        self.encode, self.prefixes = encode, prefixes

    def embed(
        self, contents: Sequence[Content], *, task: str | None = None, role: str | None = None, progress: bool = False
    ) -> np.ndarray:
        """Vectors [N, E]; under prefix_policy=task the role picks the encoder's prefix."""
        prefix = {"query": self.prefixes[0], "document": self.prefixes[1], None: ""}[role]
        return self.encode([Content(prefix + "\n".join(texts_of(content))) for content in contents])


def raw_text(
    suite: Suite,
    features: FrozenFeatures,
    near_duplicates: NearDuplicates | None = None,
    draws: int = DRAWS,
    progress: bool = False,
) -> Evaluated:
    """The pretrained text encoder on the text tasks: what training forgets shows against it. With e5's own prefixes."""
    model = RawText(lambda contents: features.vectors(contents, "text", progress), ("query: ", "passage: "))
    tasks = tuple(replace(task, prompt="e5") for task in text_tasks(suite))
    if not tasks:
        return Evaluated([], pd.DataFrame())
    scored = Scored("e5", "baseline", prefix_policy="task")
    return evaluate(
        model, replace(suite, tasks=tasks), scored, near_duplicates=near_duplicates, draws=draws, progress=progress
    )


@dataclass(frozen=True)
class Try:
    """One setting tuned on dev: the model it trained from the first seed, and its primary score there."""

    settings: Settings
    score: float
    model: LateFusion


def family_suite(suite: Suite, family: Family) -> Suite:
    """The tasks of a suite that a family answers."""
    return replace(suite, tasks=tuple(task for task in suite.tasks if task.name in family.answers))


@dataclass(frozen=True)
class Specialist:
    """One family's late fusion, by seed: the models, and what held-out says of each. Empty where it was not asked."""

    models: list[LateFusion] = field(default_factory=list)
    scored: list[Evaluated] = field(default_factory=list)


def tune(dev: Suite, family: Family, tries: int, fit: Callable[[Settings], LateFusion]) -> list[Try]:
    """Train the first `tries` settings of the grid and score each on dev; best first. Ties keep the grid's order."""
    tried = []
    dev = replace(dev, tasks=tuple(task for task in dev.tasks if not task.grouped))
    for settings in family.grid(tries):
        model = fit(settings)
        score = dev_score(evaluate(model, dev, Scored("try", "baseline"), draws=1))
        tried.append(Try(settings, score, model))
    return sorted(tried, key=lambda one: -one.score)


def dev_score(done: Evaluated) -> float:
    """Mean MRR@10 over tasks and directions in one pool, one query a concept: what is tuned on, model and baseline."""
    values = [
        row.value
        for row in done.rows
        if row.metric == "MRR@10" and not row.suite.endswith("_every_query") and row.source == "all"
        and not row.task.endswith("_languages")
    ]  # fmt: skip
    return float(np.mean(values)) if values else float("nan")


def late_fusion(
    family: Family,
    records: Sequence[Record],
    features: FrozenFeatures,
    dev: Suite,
    heldout: Suite,
    *,
    tries: int = len(GRID),
    settings: Settings | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    near_duplicates: NearDuplicates | None = None,
    log: Path | None = None,
    draws: int = DRAWS,
    progress: bool = False,
    precision: str = "32-true",
) -> Specialist:
    """One family's specialist: tuned on dev, then trained and scored on held-out once a seed.

    `settings` stand for a tuning that was done before. `log` gets one JSON line a try; `precision` is that of training.
    Empty where held-out has no task of the family.
    """
    dev, heldout = family_suite(dev, family), family_suite(heldout, family)
    if not heldout.tasks or not records:
        return Specialist()
    rows = training_rows(features, records, progress=progress)
    fit = partial(_fit, rows, features, family, progress, precision)
    best, trained = settings or family.grid(1)[0], {}
    if dev.tasks and settings is None:
        tried = tune(dev, family, tries, partial(fit, seeds[0]))
        best, trained = tried[0].settings, {seeds[0]: tried[0].model}
        _write_log(log, family, tried)
    models = [trained.get(seed) or fit(seed, best) for seed in seeds]
    scored = [Scored(MODEL_OF_FUSION[family.fusion], "baseline", seed=seed) for seed in seeds]
    judge = partial(evaluate, near_duplicates=near_duplicates, draws=draws)
    return Specialist(models, [judge(model, heldout, one) for model, one in zip(models, scored, strict=True)])


def _fit(
    rows: TrainingRows,
    features: FrozenFeatures,
    family: Family,
    progress: bool,
    precision: str,
    seed: int,
    settings: Settings,
) -> LateFusion:
    return LateFusion(train_heads(rows, settings, seed, family.fusion, progress, precision), features)


def tuned_settings(
    tuned: Mapping[str, Mapping[str, Any]], families: Sequence[Family] = FAMILIES
) -> dict[str, Settings]:
    """Settings by family's label from a config: {"speech": {"dropout": 0.4}}; what is left out is as in `Settings`."""
    if unknown := sorted(set(tuned) - {family.label for family in families}):
        raise ConfigError(
            f"tuned.{unknown[0]}: no family of late fusion; they are {', '.join(family.label for family in families)}"
        )
    try:
        return {label: Settings(**given) for label, given in tuned.items()}
    except TypeError as error:
        names = ", ".join(one.name for one in fields(Settings))
        raise ConfigError(f"tuned: {error}; settings are {names}") from error


def _write_log(path: Path | None, family: Family, tried: Sequence[Try]) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for one in tried:
            line = {
                "model": MODEL_OF_FUSION[family.fusion],
                "family": family.name,
                "dev": round(one.score, 6),
                **asdict(one.settings),
            }
            file.write(json.dumps(line) + "\n")
