"""What is measured of a split's rows, kept in the cache by chunk, under the hash of its shards.

A chunk is whole or absent: an interrupted call goes on with those that are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

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


def write_chunks(
    left: Sequence[tuple[Any, int, int, Path]],
    write: Callable[[Any, int, int, Path], None],
    workers: int,
    wrote: Callable[[int], None],
) -> None:
    """Call `write(split, start, stop, path)` for each chunk that is left, in processes of their own where there are
    several of both; `wrote` hears how many rows each had. Raises what `write` raises, and starts no further chunk.
    """
    if workers < 2 or len(left) < 2:
        for one in left:
            write(*one)
            wrote(one[2] - one[1])
        return
    with ProcessPoolExecutor(min(workers, len(left)), mp_context=get_context("spawn")) as pool:
        running = {pool.submit(write, *one): one for one in left}
        try:
            for future in as_completed(running):
                future.result()
                wrote(running[future][2] - running[future][1])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
