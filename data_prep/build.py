"""Sources to shards: read each, drop duplicates, split by concept, write; an unchanged tier is left as it is.

Sources are read by processes side by side and kept (`data_prep.staging`), then merged here. The tier's folder is
replaced as a whole, so an interrupted build leaves the one before it in use.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from queue import Empty
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from commonspace.data import shards
from commonspace.data.sample import Record
from commonspace.data.shards import ShardWriter
from commonspace.errors import DataError
from data_prep import concepts, split, staging
from data_prep.concepts import ConceptMerger
from data_prep.source import Source
from data_prep.split import SPLITS, split_of
from data_prep.staging import Staged, stage

MANIFEST = "manifest.json"
_VERSION = 1
_POLL_SECONDS = 0.2
_SHOWN_GROUPS = 20
_reports: Any = None  # in a worker: the queue that takes (source name, rows so far)


def build_tier(name: str, sources: Sequence[Source], cache: Path, data: Path, workers: int = 2) -> dict[str, Any]:
    """Build `<data>/<name>` from fetched sources and return its manifest; does nothing where it is up to date.

    Raises:
        DataError: a package is not fetched or is broken, two records have one key, or no row is left.
    """
    if not sources:
        raise DataError(f"{name}: no sources to build from")
    folder = Path(data) / name
    state = _fingerprint(sources)
    current = read_manifest(folder)
    if current and current["fingerprint"] == state and _complete(folder, current):
        return current
    with build_progress() as progress:
        staged = _stage_all(sources, Path(cache), progress, workers)
        return write_tier(name, staged, folder, state, progress)


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


def _complete(folder: Path, manifest: Mapping[str, Any]) -> bool:
    return all((folder / task / f"{side}.json").is_file() for task, side in _counted(manifest))


def _counted(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for task, sides in manifest["tasks"].items():
        yield from ((task, side) for side, count in sides.items() if count)


def _fingerprint(sources: Sequence[Source]) -> str:
    state = hashlib.sha256(f"{_VERSION}".encode())
    for source in sources:
        state.update(f"{source.name} {source.licence} {source.role} {sorted(source.zero_shot_tasks)}".encode())
        state.update(staging.fingerprint(source).encode())
    writers = [Path(shards.__file__), Path(shards.__file__).with_name("tar_records.py")]
    for path in [Path(__file__), Path(split.__file__), Path(concepts.__file__), *writers]:
        state.update(path.read_bytes() if path.is_file() else b"")
    return state.hexdigest()


def _stage_all(sources: Sequence[Source], cache: Path, progress: Progress, workers: int) -> list[Staged]:
    """Read all sources, the largest first so that the last one running is short; results in the order given."""
    bars = {source.name: progress.add_task(f"read {source.name}", total=None) for source in sources}
    if workers < 2 or len(sources) < 2:
        staged = [
            stage(source, cache, lambda n, bar=bars[source.name]: progress.update(bar, completed=n))
            for source in sources
        ]
    else:
        staged = _stage_in_processes(sources, cache, progress, bars, workers)
    for item in staged:
        progress.update(bars[item.source.name], total=item.count, completed=item.count)
    return staged


def _stage_in_processes(
    sources: Sequence[Source], cache: Path, progress: Progress, bars: Mapping[str, Any], workers: int
) -> list[Staged]:
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


def write_tier(name: str, staged: Sequence[Staged], folder: Path, state: str, progress: Progress) -> dict[str, Any]:
    """Merge staged sources into the shards of `folder`, in place of what was there; return the manifest.

    Raises:
        DataError: no row at all, or a row that cannot be written.
    """
    merger = ConceptMerger()
    seen: set[tuple[str, int, int]] = set()
    kept: dict[str, list[bool]] = {}
    for item in staged:
        kept[item.source.name] = flags = []
        for row in item.rows():
            identity = (row.task, *row.pair)
            flags.append(identity not in seen)
            seen.add(identity)
            merger.add(row.concept, row.media_ids)
    if not seen:
        raise DataError(f"{name}: its sources hold no row; see the reasons under {staged[0].folder.parent}")
    fresh = folder.with_name(f".{folder.name}-building")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        counts = _write_shards(staged, kept, merger, fresh, progress)
        manifest = _manifest(name, staged, kept, counts, merger, state)
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        replace_folder(folder, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def replace_folder(folder: Path, fresh: Path) -> None:
    """Put `fresh` in the place of `folder`, which is whole at every moment but one rename."""
    old = folder.with_name(f".{folder.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


class _Counts:
    """Tallies of what was written: rows by task and side, and variants by language and kind."""

    def __init__(self) -> None:
        self.tasks: dict[str, Counter] = defaultdict(Counter)
        self.sources: dict[str, dict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
        self.languages: dict[str, Counter] = defaultdict(Counter)
        self.kinds: dict[str, Counter] = defaultdict(Counter)

    def add(self, record: Record, side: str) -> None:
        self.tasks[record.task][side] += 1
        self.sources[record.source][record.task][side] += 1
        self.kinds[record.source][f"{_kind(record.queries[0])} -> {_kind(record.positives[0])}"] += 1
        for variant in (*record.queries, *record.positives):
            if variant.language:
                self.languages[record.source][variant.language] += 1


def _kind(variant: Any) -> str:
    return "+".join(sorted(variant.content.modalities))


def _write_shards(
    staged: Sequence[Staged], kept: Mapping[str, list[bool]], merger: ConceptMerger, folder: Path, progress: Progress
) -> _Counts:
    licences = {item.source.name: item.source.licence for item in staged}
    bar = progress.add_task("write shards", total=sum(map(sum, kept.values())))
    counts = _Counts()
    with ExitStack() as stack:
        writers: dict[tuple[str, str], ShardWriter] = {}
        for item in staged:
            for row, record in item.records(iter(kept[item.source.name])):
                if record is None:
                    continue
                record = replace(record, concept=merger.canonical(row.concept))
                side = "heldout" if item.source.held_out(record.task) else split_of(record.concept)
                if (record.task, side) not in writers:
                    writer = ShardWriter(folder / record.task, record.task, side, licences)
                    writers[record.task, side] = stack.enter_context(writer)
                writers[record.task, side].write(record)
                counts.add(record, side)
                progress.advance(bar)
    return counts


def _manifest(
    name: str,
    staged: Sequence[Staged],
    kept: Mapping[str, list[bool]],
    counts: _Counts,
    merger: ConceptMerger,
    state: str,
) -> dict[str, Any]:
    sources = {}
    for item in staged:
        source, flags = item.source, kept[item.source.name]
        duplicates = len(flags) - sum(flags)
        drops = dict(sorted(item.drops.items())) | (
            {"exact duplicate of an earlier row": duplicates} if duplicates else {}
        )
        sources[source.name] = {
            "licence": source.licence,
            "provenance": source.provenance,
            "role": source.role,
            "packages": {package.name: package.version for package in source.packages},
            "bytes": sum(package.bytes for package in source.packages),
            "rows": sum(flags),
            "tasks": {task: _sides(tally) for task, tally in sorted(counts.sources[source.name].items())},
            "kinds": dict(counts.kinds[source.name].most_common()),
            "languages": dict(counts.languages[source.name].most_common()),
            "drops": drops,
            "staged": item.fingerprint,
        }
    groups = merger.groups()
    return {
        "version": _VERSION,
        "name": name,
        "fingerprint": state,
        "tasks": {task: _sides(tally) for task, tally in sorted(counts.tasks.items())},
        "sources": sources,
        "merged_concepts": {"groups": len(groups), "largest": groups[:_SHOWN_GROUPS]},
    }


def _sides(tally: Mapping[str, int]) -> dict[str, int]:
    return {side: tally[side] for side in SPLITS}
