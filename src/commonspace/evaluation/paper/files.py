"""Files of data sets as rows; DataError names what is missing, broken or lacks a column."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commonspace.errors import DataError


def read_parquet(folder: Path, *columns: str) -> Iterator[dict[str, Any]]:
    """Rows of every parquet file below a folder, of these columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise DataError(f"{folder}: holds no parquet file; docs/paper_tables.md has the layout")
    for file in files:
        try:
            table = pq.read_table(file)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file}: is no readable parquet file ({error}); fetch it again") from error
        if lacking := sorted(set(columns) - set(table.column_names)):
            raise DataError(f"{file}: has no column {', '.join(lacking)}; it has {', '.join(table.column_names)}")
        yield from table.select(list(columns)).to_pylist()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a file of JSON lines."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); docs/paper_tables.md has the layout") from error
    for number, line in enumerate(lines, start=1):
        try:
            if line:
                yield json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: is no JSON ({error}); fetch it again") from error


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); docs/paper_tables.md has the layout") from error


def read_metadata(folder: Path, column: str) -> list[dict[str, Any]]:
    """Rows of metadata.jsonl or metadata.csv, which have a file_name and this column."""
    path = folder / "metadata.jsonl"
    rows = list(read_lines(path)) if path.is_file() else read_table(path := folder / "metadata.csv")
    if not rows or not {"file_name", column} <= set(rows[0]):
        raise DataError(
            f"{path}: needs the columns file_name and {column}; it has {sorted(rows[0]) if rows else 'no row'}"
        )
    return rows
