"""A teacher's vectors, looked up by content: what a stage distils from without holding the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from commonspace.errors import DataError


class TeacherTables:
    """The tables of a folder, one `<task>.safetensors` a task it teaches, read when first asked for.

    A table holds `ids` int64 [N], sorted content hashes (`Content.digest`), and `vectors` float16 [N, F]; only inner
    products between rows of one table mean anything. `commonspace evaluate embedder=baselines teachers=FOLDER` writes
    such tables of late fusion.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.tasks = sorted(path.stem for path in self.folder.glob("*.safetensors"))
        if not self.tasks:
            raise DataError(
                f"{folder}: holds no <task>.safetensors; `commonspace evaluate embedder=baselines teachers={folder}` "
                "writes them, stage.teacher=null goes without"
            )
        self._tables: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def scores(
        self, task: str, query_ids_B: torch.Tensor, positive_ids_B: torch.Tensor, sources: Sequence[str]
    ) -> torch.Tensor:
        """What the teacher thinks of each query with each target: float32 [B, B]."""
        return self.vectors(task, query_ids_B, sources) @ self.vectors(task, positive_ids_B, sources).T

    def vectors(self, task: str, ids_B: torch.Tensor, sources: Sequence[str]) -> torch.Tensor:
        """float32 [B, F] of contents by their ids; DataError names the first sample whose content it does not know."""
        if task not in self._tables:
            self._tables[task] = _read(self._path(task))
        ids, vectors = self._tables[task]
        rows_B = torch.searchsorted(ids, ids_B.cpu()).clamp(max=len(ids) - 1)
        if (unknown_B := ids[rows_B] != ids_B.cpu()).any():
            raise DataError(
                f"{self._path(task)}: does not know a content of {sources[int(unknown_B.nonzero()[0])]}; "
                "it was written for other shards: write it again"
            )
        return vectors[rows_B].float().to(ids_B.device)

    def _path(self, task: str) -> Path:
        return self.folder / f"{task}.safetensors"


def _read(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The ids and vectors of one table."""
    try:
        tensors = load_file(path)
        ids, vectors = tensors["ids"], tensors["vectors"]
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(f"{path}: is no table of a teacher ({error}); write it again") from error
    if ids.ndim != 1 or vectors.ndim != 2 or len(ids) != len(vectors) or not (ids[1:] > ids[:-1]).all():
        raise DataError(f"{path}: ids must rise and pair up with vectors; write it again")
    return ids, vectors
