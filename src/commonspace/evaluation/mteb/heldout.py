"""Our held-out suite as mteb tasks, so that any model that mteb can load is measured on it by mteb's own code.

Queries are those of headlines, one a concept (of each language, where languages are apart); items and what is right are
those of `commonspace.evaluation.suite`. A task whose contents do not fit one row of columns text, image, audio, video
is left out, and why is said: documents, and clips with their own soundtrack, which mteb has as a sound of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from commonspace.content import Audio, Content, Image, Text, Video
from commonspace.errors import DataError
from commonspace.evaluation.relevance import one_per_unit
from commonspace.evaluation.specs import SPECS
from commonspace.evaluation.suite import EvalTask, Suite

if TYPE_CHECKING:
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval

PATH = "commonspace"  # first part of the data set's name in a task's metadata
SPLIT = "test"
_LETTERS = {"image": "i", "video": "v", "audio": "a", "text": "t"}  # as mteb writes categories, in its order below
_CATEGORY_ORDER = ("image", "video", "audio", "text")
_KINDS = {Text: "text", Image: "image", Audio: "audio", Video: "video"}


def heldout_tasks(suite: Suite) -> tuple[list[AbsTaskRetrieval], dict[str, str]]:
    """(tasks, {what was left out: why}) of a suite; the main score is MRR@10, the primary measure of our tables."""
    built, left_out = [], {}
    for task in suite.tasks:
        if reason := unfit(task):
            left_out[task.label] = reason
        else:
            built.append(mteb_task(task))
    return built, left_out


def unfit(task: EvalTask) -> str:
    """Why a task cannot be rows of columns; "" where it can."""
    for content in (*task.queries, *task.gallery):
        kinds = [_KINDS.get(type(part), "document") for part in content.parts]
        if "document" in kinds:
            return "a document is several parts in order, and a row has one of each kind"
        if len(kinds) != len(set(kinds)):
            return "a content has several parts of one kind, and a row has one"
        if any(isinstance(part, Video) and part.sound for part in content.parts):
            return "mteb has a clip's soundtrack as a sound of its own"
    return ""


def own_prompt(metadata: Any) -> tuple[bool, str | None]:
    """(whether a task is of our suite, the task of its prefix as the suite has it)."""
    parts = str(metadata.dataset.get("path", "")).split("/")
    if parts[0] != PATH or len(parts) != 3:
        return False, None
    return True, next((spec.prompt for spec in SPECS if spec.name == parts[2]), None)


def mteb_task(task: EvalTask) -> AbsTaskRetrieval:
    """One task of the suite as mteb's retrieval task; where languages compete apart, each is a subset.

    Its `pools` are {subset: (queries, items)}, counted here: mteb's statistics know its own tasks alone.
    """
    from mteb.abstasks.retrieval import AbsTaskRetrieval

    data = dict(_subsets(task))
    metadata = _metadata(task, data)

    class Held(AbsTaskRetrieval):
        """Its data is in memory: nothing is fetched, and unloading keeps what `load_data` gives again."""

        def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
            self.dataset = {name: {SPLIT: dict(parts)} for name, parts in data.items()}
            self.data_loaded = True

    Held.metadata = metadata
    Held.pools = {name: (len(parts["queries"]), len(parts["corpus"])) for name, parts in data.items()}
    Held.__name__ = metadata.name
    return Held()


def revision_of(task: EvalTask) -> str:
    """32 hex digits over a task's queries, items and right answers, and what its one query a concept is chosen by."""
    relevance = task.relevance
    digests = [values.tolist() for values in (task.query_digests, task.gallery_digests)]
    told = [digests, relevance.starts.tolist(), relevance.items.tolist(), task.query_groups, task.gallery_groups]
    return hashlib.blake2b(json.dumps([*told, task.units, task.keys]).encode(), digest_size=16).hexdigest()


def _metadata(task: EvalTask, data: dict[str, Any]) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    sides = [_modalities(contents) for contents in (task.queries, task.gallery)]
    modalities = [kind for kind in _CATEGORY_ORDER if kind in {*sides[0], *sides[1]}]
    category = "2".join("".join(_LETTERS[kind] for kind in side) for side in sides)
    languages = {name: _codes(name if task.grouped else one) for name in data for one in [_one(task.languages)]}
    return TaskMetadata(
        name=f"{task.split}-{task.name}-{task.direction.replace('->', '-to-').replace('+', '-and-')}",
        description=f"{task.label} of the {task.split} suite of commonspace",
        dataset={"path": f"{PATH}/{task.split}/{task.name}", "revision": revision_of(task)},
        type="Retrieval" if modalities == ["text"] else "Any2AnyRetrieval",
        category=category,
        modalities=modalities,
        eval_splits=[SPLIT],
        eval_langs=languages if task.grouped else languages["default"],
        main_score="mrr_at_10",
        task_subtypes=["Code retrieval"] if task.prompt == "code retrieval" else None,
    )


def _modalities(contents: Iterable[Content]) -> list[str]:
    found = {_KINDS[type(part)] for content in contents for part in content.parts}
    return [kind for kind in _CATEGORY_ORDER if kind in found]


def _one(languages: Sequence[str]) -> str:
    names = set(languages)
    return names.pop() if len(names) == 1 else ""


def _codes(language: str) -> list[str]:
    """ISO 639-3 of one of our languages ("de", "pt_BR"); "mul" where a pool has several or none is known."""
    known = json.loads(resources.files("mteb.languages").joinpath("iso_639_1_to_3.json").read_text("utf-8"))
    short = language.replace("-", "_").partition("_")[0]
    return [known.get(short, short if len(short) == 3 else "mul")]


def _subsets(task: EvalTask) -> Iterator[tuple[str, dict[str, Any]]]:
    """(subset, its queries, corpus and right answers) of every pool."""
    query_groups, item_groups = np.asarray(task.query_groups), np.asarray(task.gallery_groups)
    for group in sorted(set(task.query_groups)):  # "" alone where the task has one pool
        asked = one_per_unit(task.units, task.keys, query_groups == group)
        queries, items = np.flatnonzero(asked), np.flatnonzero(item_groups == group)
        right = {f"q{row}": {f"d{item}": 1 for item in task.relevance.of(row)} for row in queries}
        yield (
            group or "default",
            {
                "queries": _dataset([f"q{row}" for row in queries], [task.queries[row] for row in queries]),
                "corpus": _dataset([f"d{row}" for row in items], [task.gallery[row] for row in items]),
                "relevant_docs": right,
                "top_ranked": None,
            },
        )


def _dataset(ids: Sequence[str], contents: Sequence[Content]) -> Dataset:
    """Rows of `datasets`: media as the bytes of their files, under the features that mteb's collators know."""
    import datasets

    features = {"image": datasets.Image, "audio": datasets.Audio, "video": datasets.Video}
    kinds = _modalities(contents)
    columns: dict[str, list[Any]] = {"id": list(ids)}
    for kind in kinds:
        columns[kind] = [_value(content, kind) for content in contents]
    data = datasets.Dataset.from_dict(columns)
    for kind in kinds:
        if kind in features:
            data = data.cast_column(kind, features[kind]())
    return data


def _value(content: Content, kind: str) -> Any:
    part = next((part for part in content.parts if _KINDS[type(part)] == kind), None)
    if part is None:
        raise DataError(f"{content}: has no {kind}, and others of its side have; such a task is no table of columns")
    if isinstance(part, Text):
        return part.text
    if not isinstance(part.source, (bytes, str)) and not hasattr(part.source, "read_bytes"):
        raise DataError(f"{part.label}: is an array; a medium of the suite has a file's bytes")
    return {"bytes": part.read_bytes(), "path": part.name}
