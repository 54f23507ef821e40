"""Sources to shards: read each, drop duplicates, split by concept, write; an unchanged tier is left as it is.

Sources are read by processes side by side and kept (`data_prep.staging`), then merged (`data_prep.merge`). The tier's
folder is replaced as a whole, so an interrupted build leaves the one before it in use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from commonspace.data import estimate, sample, shard_writer, shards, tar_records
from commonspace.errors import DataError
from data_prep import concepts, keys, merge, sides, sketches, split, staging
from data_prep.building import alone
from data_prep.merge import MANIFEST, write_tier
from data_prep.source import Source
from data_prep.staging import Staged, stage

WRITER = (sample, estimate, tar_records, shards, shard_writer)  # what shards hold of a record
_POLL_SECONDS = 0.2
_reports: Any = None  # in a worker: the queue that takes (source name, rows so far)


def build_tier(
    name: str, sources: Sequence[Source], cache: Path, data: Path, workers: int = 2, folder: str | None = None
) -> dict[str, Any]:
    """Build `<data>/<folder>` from fetched sources and return its manifest; does nothing where it is up to date.

    The folder has the tier's name where no other is given.

    Raises:
        DataError: a package is not fetched or is broken, two records have one key, no row is left, or another process
            builds the same.
    """
    if not sources:
        raise DataError(f"{name}: no sources to build from")
    place = Path(data) / (folder or name)
    state = _fingerprint(sources)
    if current := _current(place, state):
        return current
    with alone(place), build_progress() as progress:
        if current := _current(place, state):  # by a process that ended before this one had the lock
            return current
        staged = _stage_all(sources, Path(cache), progress, workers)
        return write_tier(name, staged, place, state, progress)


def build_progress() -> Progress:
    """Bars with a count of rows, whose total may be unknown until a source has been read."""
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `build_tier` wrote about a tier, or None where there is none."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); delete {folder} and build it again") from error


def _current(folder: Path, state: str) -> dict[str, Any] | None:
    """The manifest of a tier that is whole and follows from this state."""
    found = read_manifest(folder)
    return found if found and found["fingerprint"] == state and _complete(folder, found) else None


def _complete(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether every split that the manifest counts has its description, which is written last."""
    counted = ((task, side) for task, sides in manifest["tasks"].items() for side, count in sides.items() if count)
    return all((folder / task / f"{side}.json").is_file() for task, side in counted)


def _fingerprint(sources: Sequence[Source]) -> str:
    """Hash of what the shards follow from: the staged sources and the code that merges and writes them."""
    state = hashlib.sha256(f"{merge.VERSION}".encode())
    for source in sources:
        state.update(f"{source.name} {source.licence} {source.role} {sorted(source.zero_shot_tasks)}".encode())
        state.update(staging.fingerprint(source).encode())
    for module in (merge, concepts, sides, sketches, keys, split, *WRITER):
        state.update(Path(module.__file__).read_bytes())
    return state.hexdigest()


def _stage_all(sources: Sequence[Source], cache: Path, progress: Progress, workers: int) -> list[Staged]:
    """Read all sources; results in the order given."""
    bars = {source.name: progress.add_task(f"read {source.name}", total=None) for source in sources}
    if workers < 2 or len(sources) < 2:
        staged = [stage(source, cache, _advance(progress, bars[source.name])) for source in sources]
    else:
        staged = _stage_in_processes(sources, cache, progress, bars, workers)
    for item in staged:
        progress.update(bars[item.source.name], total=item.count, completed=item.count)
    return staged


def _advance(progress: Progress, bar: Any) -> staging.Advance:
    return lambda count: progress.update(bar, completed=count)


def _stage_in_processes(
    sources: Sequence[Source], cache: Path, progress: Progress, bars: Mapping[str, Any], workers: int
) -> list[Staged]:
    """The largest source first, so that the one that runs last and alone is a short one."""
    context = get_context("spawn")  # forked image libraries can hang in their own thread pools
    queue = context.Queue()
    order = sorted(sources, key=lambda source: -sum(package.bytes for package in source.packages))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(queue,)) as pool:
        running = {source.name: pool.submit(_stage_in_worker, source, cache) for source in order}
        try:
            while not all(future.done() for future in running.values()):
                _show(queue, progress, bars)
                for future in running.values():
                    if future.done():
                        future.result()  # an error ends the build now, not after the slowest source
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [running[source.name].result() for source in sources]


def _show(queue: Any, progress: Progress, bars: Mapping[str, Any]) -> None:
    try:
        name, count = queue.get(timeout=_POLL_SECONDS)
    except Empty:
        return
    progress.update(bars[name], completed=count)


def _start_worker(queue: Any) -> None:
    global _reports
    _reports = queue


def _stage_in_worker(source: Source, cache: Path) -> Staged:
    return stage(source, cache, lambda count: _reports.put((source.name, count)))
