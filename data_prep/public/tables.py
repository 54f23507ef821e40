"""Rows of the files that sets are annotated in: JSON, JSON lines, CSV, TSV and parquet, plain or gzipped.

Whatever is wrong with one is a `DataError` that names the file, the line where there is one, and what to do.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from commonspace.errors import DataError
from data_prep.public.fields import one

_BATCH = 256  # rows of a parquet file held at once: some hold pictures
_AGAIN = "is it whole and as published? Download it again"
csv.field_size_limit(2**30)


def kind_of(path: Path) -> str:
    """json, jsonl, csv, tsv or parquet, by the name.

    Raises:
        DataError: none of these.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    kinds = {".json": "json", ".jsonl": "jsonl", ".jsonlines": "jsonl", ".csv": "csv", ".tsv": "tsv"}
    kinds[".parquet"] = "parquet"
    if suffix not in kinds:
        raise DataError(f"{path}: not a kind of table this reads ({', '.join(kinds)}, plain or .gz)")
    return kinds[suffix]


def read_table(
    path: Path, rows: str = "", columns: Sequence[str] | None = None, encoding: str = "utf-8"
) -> Iterator[dict[str, Any]]:
    """The rows of a file, one mapping each.

    rows     path to the rows inside a JSON file; of a mapping its values, each with its key as `_key`
    columns  names of a CSV's or TSV's columns where its first line does not say them
    """
    kind = kind_of(path)
    try:
        if kind == "parquet":
            yield from _parquet(path)
        elif kind == "json":
            yield from _json(path, rows, encoding)
        elif kind == "jsonl":
            yield from _json_lines(path, encoding)
        else:
            yield from _csv(path, columns, encoding, "," if kind == "csv" else "\t")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not {encoding}; say `encoding` in the set's YAML, or {_AGAIN}"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); {_AGAIN}") from error


def _open(path: Path, encoding: str) -> io.TextIOWrapper:
    opened = gzip.open if path.name.endswith(".gz") else open
    return io.TextIOWrapper(opened(path, "rb"), encoding="utf-8-sig" if encoding == "utf-8" else encoding, newline="")


def _json(path: Path, rows: str, encoding: str) -> Iterator[dict[str, Any]]:
    with _open(path, encoding) as stream:
        try:
            value = json.load(stream)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not JSON ({error}); {_AGAIN}") from error
    try:
        value = one(value, rows) if rows else value
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if isinstance(value, Mapping):
        value = [{"_key": key, **(item if isinstance(item, dict) else {"_value": item})} for key, item in value.items()]
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(f"{path}: holds no list of rows{f' in {rows!r}' if rows else ''}; {_AGAIN}")
    yield from value


def _json_lines(path: Path, encoding: str) -> Iterator[dict[str, Any]]:
    with _open(path, encoding) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: line {number} is not JSON ({error}); {_AGAIN}") from error
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is no object; {_AGAIN}")
            yield row


def _csv(path: Path, columns: Sequence[str] | None, encoding: str, delimiter: str) -> Iterator[dict[str, Any]]:
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    with _open(path, encoding) as stream:
        reader = csv.DictReader(stream, fieldnames=columns, delimiter=delimiter, quoting=quoting)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}: line {reader.line_num} has not the {len(reader.fieldnames or ())} columns "
                        f"{', '.join(reader.fieldnames or ())}; {_AGAIN}"
                    )
                yield row
        except csv.Error as error:
            raise DataError(f"{path}: line {reader.line_num}: {error}; {_AGAIN}") from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, use_threads=False):
                yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: not a whole parquet file ({error}); {_AGAIN}") from error
