"""Models of other libraries on our suite, by the same code: sentence-transformers' folders, open_clip's dual towers.

A rival is asked what it can read, and no more: which tasks are left out is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from commonspace.content import Content
from commonspace.errors import ConfigError, ContentError, WeightsError
from commonspace.evaluation.dual_tower import OPEN_CLIP, DualTower
from commonspace.evaluation.frozen import texts_of
from commonspace.evaluation.mteb.rivals import is_ours, sentence_transformer
from commonspace.evaluation.suite import Suite
from commonspace.models.device import best_device


class Rival(Protocol):
    """What evaluation asks of a model of another library, beside `embed`.

    kinds     what it reads, in words     prompted  whether texts stand behind a prompt, by their role
    """

    kinds: str
    prompted: bool

    def reads(self, content: Content) -> bool:
        """Whether the model has a vector for a content."""
        ...

    def embed(
        self, contents: Sequence[Content], *, task: str | None = None, role: str | None = None, progress: bool = False
    ) -> np.ndarray:
        """Vectors [N, E] of the contents, in their order."""
        ...


class SentenceTransformerRival:
    """A folder of sentence-transformers; documents are their texts. The library's own prompts stand before texts, by
    role, or those that are given. A folder without `modules.json` is a transformer under mean pooling.
    """

    kinds = "text"

    def __init__(self, folder: Path, prompts: Mapping[str, str] | None = None) -> None:
        options = {"prompts": dict(prompts)} if prompts else {}
        try:
            self.model = sentence_transformer(folder, best_device(), **options)
        except ImportError as error:
            raise ConfigError(
                f"{folder}: needs sentence-transformers: run make setup, or pip install -e '.[rivals]'"
            ) from error
        except Exception as error:  # of any of the libraries below it
            raise WeightsError(f"{folder}: sentence-transformers cannot load it ({error})") from error

    @property
    def prompted(self) -> bool:
        """Whether any role has a prompt."""
        return any(self.model.prompts.values())

    def reads(self, content: Content) -> bool:
        """Texts, and documents that have some."""
        return content.modalities <= {"text", "document"} and bool(texts_of(content))

    def embed(
        self, contents: Sequence[Content], *, task: str | None = None, role: str | None = None, progress: bool = False
    ) -> np.ndarray:
        """Unit vectors [N, E] as `SentenceTransformer.encode` gives them; the role picks the prompt.

        Raises ContentError for a content that is no text.
        """
        if unread := next((content for content in contents if not self.reads(content)), None):
            raise ContentError(
                f"a content of {sorted(unread.modalities)}: this model of sentence-transformers reads text"
            )
        encode = {"query": self.model.encode_query, "document": self.model.encode_document, None: self.model.encode}
        texts = ["\n".join(texts_of(content)) for content in contents]
        return encode[role](texts, normalize_embeddings=True, show_progress_bar=progress)


def is_rival(folder: Path) -> bool:
    """Whether a folder is a model of another library: by its modules, open_clip's config, or transformers' own."""
    if is_ours(folder) or not folder.is_dir():
        return False
    return any((folder / name).is_file() for name in ("modules.json", OPEN_CLIP)) or (
        (folder / "config.json").is_file() and "model_type" in json.loads((folder / "config.json").read_text())
    )


def load_rival(folder: Path, prompts: Mapping[str, str] | None = None) -> Rival:
    """The model of a folder that `is_rival`; ConfigError for prompts of a dual tower, which has none."""
    if not (folder / OPEN_CLIP).is_file():
        return SentenceTransformerRival(folder, prompts)
    if prompts:
        raise ConfigError(f"rival_prompts: {folder} is a dual tower of open_clip, which takes none; leave it out")
    return DualTower.load(folder)


def answerable(suite: Suite, rival: Rival) -> tuple[Suite, list[str]]:
    """(the tasks that a rival reads every content of, the labels of the others). Prompts go by role on all of text.

    Raises ConfigError where nothing is left.
    """
    fits = [all(map(rival.reads, (*task.queries, *task.gallery))) for task in suite.tasks]
    kept = tuple(replace(task, prompt="rival") for task, fit in zip(suite.tasks, fits, strict=True) if fit)
    if not kept:
        raise ConfigError(
            f"embedder: the model reads {rival.kinds}, and no task that is asked has that on both sides; it was asked "
            f"{', '.join(task.label for task in suite.tasks)}"
        )
    return replace(suite, tasks=kept), [task.label for task, fit in zip(suite.tasks, fits, strict=True) if not fit]
