"""What a training leaves beside its model: its dev scores, and those of every query, for comparisons in pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from commonspace.errors import DataError
from commonspace.files import replaced, write_text

SCORES, QUERIES = "dev.json", "dev.parquet"


def write_scores(run: Path, scores: Mapping[str, float], queries: pd.DataFrame) -> None:
    """Keep both in a run's folder; dev.json comes last, so that where it is, all is."""
    with replaced(run / QUERIES) as partial:
        queries.to_parquet(partial, index=False)
    write_text(run / SCORES, json.dumps(dict(scores), indent=1) + "\n")


def read_scores(run: Path) -> dict[str, float] | None:
    """A run's dev scores, None where it has not ended."""
    path = run / SCORES
    if not path.exists():
        return None
    try:
        return {name: float(value) for name, value in json.loads(path.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no dev scores ({error}); delete the file to train the run again") from error


def forget_scores(run: Path) -> None:
    """A run that begins again has not ended."""
    (run / SCORES).unlink()


def read_queries(run: Path) -> pd.DataFrame:
    """A run's queries on dev: task, direction, query, concept and reciprocal rank (MRR@10 is its mean)."""
    path = run / QUERIES
    if not path.exists():
        raise DataError(f"{path}: no scores of single queries; the run has not ended, or is of an older version")
    return pd.read_parquet(path)
