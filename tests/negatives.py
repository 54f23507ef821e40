"""Lists of hard negatives named by their keys, as tests think of them: mining itself knows rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from commonspace.data.negatives import write_rows
from commonspace.data.shards import ShardReader


def write_negatives(
    path: Path, reader: ShardReader, negatives: Mapping[str, Sequence[str]], scores: Mapping[str, Sequence[float]]
) -> None:
    """Write lists as mined on `reader`."""
    rows = np.array([reader.row_of(key) for key in negatives], dtype=np.int64)
    counts = np.array([len(keys) for keys in negatives.values()], dtype=np.int64)
    found = np.array([reader.row_of(key) for keys in negatives.values() for key in keys], dtype=np.int64)
    flat = np.array([score for key in negatives for score in scores[key]], dtype=np.float32)
    write_rows(path, reader, rows, counts, found, flat)
