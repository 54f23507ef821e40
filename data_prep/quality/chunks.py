"""What is measured of a split's rows, kept in the cache by chunk, under the hash of its shards.

A chunk is whole or absent: an interrupted call goes on with those that are missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.files import replaced

ROWS = 2000  # of a chunk


def chunks(reader: ShardReader, cache: Path, what: str, ending: str) -> list[tuple[int, int, Path]]:
    """First row, row past the last, and file of each chunk of what is called `what`."""
    folder = cache / "quality" / f"{what}-{reader.fingerprint[:20]}"
    return [
        (start, min(start + ROWS, len(reader)), folder / f"{start:09d}.{ending}")
        for start in range(0, len(reader), ROWS)
    ]


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Another name to write a chunk to, as `files.replaced` gives; raises DataError where it cannot be written."""
    try:
        with replaced(path) as partial:
            yield partial
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); free space, then go on") from error
