"""Late fusion as a teacher: its seeds' vectors of every training content, whose scores alignment learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from commonspace.content import Content
from commonspace.data.sample import Record
from commonspace.errors import DataError
from commonspace.evaluation.late_fusion import LateFusion
from commonspace.files import replaced

TASKS = {"image": "image_caption", "speech": "speech"}  # families that teach, by the task they teach


def write_teacher(path: Path, models: Sequence[LateFusion], records: Sequence[Record]) -> int:
    """Write the vectors of all contents of `records`, both sides and every variant; returns how many those are.

    ids      int64 [N], `Content.digest()`, rising
    vectors  float16 [N, S E], the S models' unit vectors side by side over sqrt(S): the inner product of two rows is
             the mean of the models' cosines
    The file is whole or not there. Raises DataError where there is no model or no record.
    """
    if not models or not records:
        raise DataError(f"{path}: no models or no training records to write a teacher from; build the train split")
    contents = _contents(records)
    size, some = models[0].heads_size, list(contents.values())
    vectors = np.empty((len(contents), len(models) * size), dtype=np.float16)
    for number, model in enumerate(models):
        vectors[:, number * size : (number + 1) * size] = model.embed(some) / len(models) ** 0.5
    with replaced(path) as partial:
        save_file({"ids": np.array(list(contents), dtype=np.int64), "vectors": vectors}, partial)
    return len(contents)


def _contents(records: Sequence[Record]) -> dict[int, Content]:
    """Distinct contents of the records by digest, in its order."""
    sides = (side for record in records for side in (record.queries, record.positives))
    found = {variant.content.digest(): variant.content for side in sides for variant in side}
    return dict(sorted(found.items()))
