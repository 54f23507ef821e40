"""A public set to shards: its parts side by side, each kept once it is done, then joined.

A part (a tar, a file, ten thousand rows) becomes shards of its own under `<data>/.<name>-parts-<hash>`; one that is
done is not read again, so an interrupted build goes on where it was. The tier's folder is replaced as a whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from commonspace.data import shard_join
from commonspace.data.sample import Record
from commonspace.data.shard_join import join_split
from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from data_prep import keys, pictures, split
from data_prep.build import WRITER, build_progress, read_manifest
from data_prep.building import alone
from data_prep.merge import MANIFEST, replace_folder
from data_prep.public.annotations import AnnotationReader
from data_prep.public.media import MISSING, check_missing
from data_prep.public.pairs import PairReader, check_judged
from data_prep.public.reader import Judged, Part, Reader
from data_prep.public.spec import PublicSet
from data_prep.public.tars import TarReader
from data_prep.split import SPLITS, split_of

VERSION = 1
READERS: dict[str, type[Reader]] = {"tars": TarReader, "annotations": AnnotationReader, "pairs": PairReader}
_SIDES = ("heldout", "dev", "train")  # of pairs that recur, the one that is evaluated on stays
_EXACT = "exact duplicate of another row"


def build_public(
    spec: PublicSet,
    folder: Path,
    data: Path,
    name: str | None = None,
    workers: int = 2,
    limit: int | None = None,
    missing: float = MISSING,
) -> dict[str, Any]:
    """Build `<data>/<name>` of a set's published files and return its manifest; does nothing where it is up to date.

    limit    at most so many rows of each part: a look before a long build
    missing  share of the media named by annotations that may be missing or empty, and of the pairs in a file of
             judgements whose query or passage may be; a larger one is refused, for then a download has not ended. Of
             all rows, whatever the limit

    Raises:
        ConfigError: `missing` is no share.
        DataError: files or judged pairs are missing, cut short, changed since they were pinned or not as published; no
            row is left; the disk is full; another process builds the same. The tier that was there before stays.
    """
    folder, target = Path(folder), Path(data) / (name or spec.name)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; put there:\n  " + "\n  ".join(spec.download))
    _check_sizes(spec, folder)
    parts = READERS[spec.reader](spec, folder).parts()
    check_missing(spec.title, folder, [part.media for part in parts], missing)
    state = _fingerprint(spec, parts, limit)
    if current := _current(target, state):
        check_judged(spec, folder, [Judged(**one) for one in current["judged"]], missing)
        return current
    with alone(target):
        if current := _current(target, state):  # by a process that ended before this one had the lock
            return current
        place = target.with_name(f".{target.name}-parts-{state[:12]}")
        _forget(target, place)
        done = _write_parts(spec, folder, parts, place, workers, limit, missing)
        manifest = _join(spec, target, place, done, state)
        shutil.rmtree(place, ignore_errors=True)
    return manifest


def _forget(target: Path, place: Path) -> None:
    """Take away the parts of builds of other rows, and what processes that were killed left half-written."""
    for other in target.parent.glob(f".{target.name}-parts-*"):
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    for stray in place.glob(".*.partial"):
        shutil.rmtree(stray, ignore_errors=True)


def _check_sizes(spec: PublicSet, folder: Path) -> None:
    for file, size in spec.bytes.items():
        path = folder / file
        if path.is_file() and path.stat().st_size != size:
            raise DataError(
                f"{path}: has {path.stat().st_size} bytes where {spec.title} was published with {size}: it is cut "
                "short, or changed upstream. Download it again; if it did change, look at what did and correct "
                f"sets/{spec.name}.yaml"
            )


def _current(target: Path, state: str) -> dict[str, Any] | None:
    """The manifest of a set that is whole and follows from this state."""
    found = read_manifest(target)
    return found if found and found["fingerprint"] == state and _is_whole(target, found) else None


def _is_whole(target: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether every split that the manifest counts is there, with its index and all of its shards."""
    counted = [(task, side) for task, sides in manifest["tasks"].items() for side, count in sides.items() if count]
    try:
        for task, side in counted:
            ShardReader(target / task, side)
    except DataError:
        return False
    return all((target / task / f"{side}.parquet").is_file() for task, side in counted)


def _fingerprint(spec: PublicSet, parts: Sequence[Part], limit: int | None) -> str:
    """Hash of what is read, by size and date of the files and of the media they name, and of the code for it."""
    state = hashlib.sha256(f"{VERSION}:{limit}:{json.dumps(asdict(spec), sort_keys=True, default=str)}".encode())
    for part in parts:
        state.update(f"{part.name}:{part.published}:{part.start}:{part.stop}:{part.media.state}".encode())
        for path in part.files:
            about = path.stat()
            state.update(f"{path.name}:{about.st_size}:{about.st_mtime_ns}".encode())
    modules = (pictures, keys, split, shard_join, *WRITER)
    for path in (*sorted(Path(__file__).parent.glob("*.py")), *(Path(module.__file__) for module in modules)):
        state.update(path.read_bytes())
    return state.hexdigest()


def _write_parts(
    spec: PublicSet,
    folder: Path,
    parts: Sequence[Part],
    place: Path,
    workers: int,
    limit: int | None,
    missing: float,
) -> list[dict[str, Any]]:
    """What was found in each part, in their order."""
    places = {part: place / f"{number:06d}" for number, part in enumerate(parts)}
    left = [part for part in parts if not (places[part] / "done.json").is_file()]
    done = {part: _done(places[part]) for part in parts if part not in left}
    check_judged(spec, folder, _judged(done.values()), missing)
    with build_progress() as progress:
        bar = progress.add_task(f"read {spec.name}", total=len(parts), completed=len(parts) - len(left))
        for part in _run(spec, folder, left, places, workers, limit):
            progress.update(bar, advance=1, description=f"read {spec.name}: {part.name}")
            done[part] = _done(places[part])
            check_judged(spec, folder, _judged([done[part]]), missing)
    return [done[part] for part in parts]


def _done(place: Path) -> dict[str, Any]:
    return json.loads((place / "done.json").read_text(encoding="utf-8"))


def _judged(done: Iterable[Mapping[str, Any]]) -> list[Judged]:
    return [Judged(**part["judged"]) for part in done if part["judged"]]


def _run(
    spec: PublicSet, folder: Path, parts: Sequence[Part], places: dict[Part, Path], workers: int, limit: int | None
) -> Iterator[Part]:
    if workers < 2 or len(parts) < 2:
        for part in parts:
            write_part(spec, folder, part, places[part], limit)
            yield part
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(write_part, spec, folder, part, places[part], limit): part for part in parts}
        try:
            for future in as_completed(running):
                future.result()
                yield running[future]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def write_part(spec: PublicSet, folder: Path, part: Part, place: Path, limit: int | None) -> None:
    """Write one part's shards to `place`, whole or not at all.

    Its half-written folder bears the process's number: a worker whose build was killed may write the same part still.
    """
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    drops, kinds, languages = Counter(), Counter(), Counter()
    pairs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    try:
        partial.mkdir(parents=True)
        with ExitStack() as stack:
            writers: dict[str, ShardWriter] = {}
            reader = READERS[spec.reader](spec, folder)
            for record, published in islice(reader.records(part, drops), limit):
                side = _side(spec, record, published)
                if side not in writers:
                    writer = ShardWriter(partial / spec.task, spec.task, side, {spec.name: spec.licence})
                    writers[side] = stack.enter_context(writer)
                _write(spec, part, writers[side], record)
                pairs[side].append((record.queries[0].content.digest(), record.positives[0].content.digest()))
                _count(record, kinds, languages)
        for side, found in pairs.items():
            np.save(partial / f"{side}.npy", np.array(found, np.int64))
        done = {"drops": dict(drops), "kinds": dict(kinds), "languages": dict(languages), "place": place.name}
        done["judged"] = asdict(reader.judged) if reader.judged else None
        (partial / "done.json").write_text(json.dumps(done, ensure_ascii=False), encoding="utf-8")
        os.rename(partial, place)
    except OSError as error:
        if not (place / "done.json").is_file():  # else such a worker was faster, and its part is as good
            why = error.strerror or error
            raise DataError(f"{partial}: cannot be written ({why}); free space, then go on") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(spec: PublicSet, part: Part, writer: ShardWriter, record: Record) -> None:
    """Write a record; an error names where it is from, not the folder of half-written shards."""
    try:
        writer.write(record)
    except DataError as error:
        if isinstance(error.__cause__, OSError):  # the disk, and no fault of the row
            raise
        what = str(error).removeprefix(f"{writer.folder / writer.split}: ")
        raise DataError(
            f"{part.files[0]}: {record.extra['published']}: {what}. Is the file as {spec.title} is published, and "
            f"`key` in sets/{spec.name}.yaml unique to a row?"
        ) from error


def _side(spec: PublicSet, record: Record, published: str) -> str:
    side = spec.side(published)
    assert side is not None  # those are left out by the reader
    return split_of(record.concept) if side == "hash" else side


def _count(record: Record, kinds: Counter, languages: Counter) -> None:
    names = ["+".join(sorted(side[0].content.modalities)) for side in (record.queries, record.positives)]
    kinds[" -> ".join(names)] += 1
    languages.update(variant.language for variant in (*record.queries, *record.positives) if variant.language)


def _join(spec: PublicSet, target: Path, place: Path, done: Sequence[dict[str, Any]], state: str) -> dict[str, Any]:
    kept, twice = _distinct(place, done)
    if not any(flags.any() for flags in kept.values()):
        drops = sum((Counter(part["drops"]) for part in done), Counter())
        raise DataError(f"{spec.name}: no row is left; left out were {dict(drops) or 'none'}, of {len(done)} parts")
    fresh = target.with_name(f".{target.name}-building")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        counts = {}
        for side in SPLITS:
            places = [part["place"] for part in done if (part["place"], side) in kept]
            sources = [(ShardReader(place / one / spec.task, side), kept[one, side]) for one in places]
            counts[side] = join_split(fresh / spec.task, spec.task, side, sources, {spec.name: spec.licence})
        manifest = _manifest(spec, done, counts, twice, state)
        (fresh / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        replace_folder(target, fresh)
    except OSError as error:
        raise DataError(f"{fresh}: cannot be written ({error.strerror or error}); free space, then go on") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _distinct(place: Path, done: Sequence[dict[str, Any]]) -> tuple[dict[tuple[str, str], np.ndarray], int]:
    """{(part, side): rows that repeat no pair of an earlier side or part}, and how many do: 16 bytes a row are held."""
    found = {
        (part["place"], side): np.load(place / part["place"] / f"{side}.npy")
        for side in _SIDES
        for part in done
        if (place / part["place"] / f"{side}.npy").is_file()
    }
    if not found:
        return {}, 0
    pairs = np.ascontiguousarray(np.concatenate(list(found.values())))
    _, first = np.unique(pairs.view([("query", np.int64), ("positive", np.int64)]), return_index=True)
    flags = np.zeros(len(pairs), bool)
    flags[first] = True
    ends = np.cumsum([len(rows) for rows in found.values()])[:-1]
    return dict(zip(found, np.split(flags, ends), strict=True)), int(len(flags) - flags.sum())


def _manifest(
    spec: PublicSet, done: Sequence[dict[str, Any]], counts: dict[str, int], twice: int, state: str
) -> dict[str, Any]:
    drops, kinds, languages = (
        sum((Counter(part[key]) for part in done), Counter()) for key in ("drops", "kinds", "languages")
    )
    if twice:
        drops[_EXACT] = twice
    source = {
        "licence": spec.licence,
        "provenance": f"{spec.title}, {spec.home}",
        "role": "train" if spec.default else "in_domain",
        "zero_shot_tasks": [],
        "packages": {},
        "bytes": 0,
        "rows": sum(counts.values()),
        "tasks": {spec.task: counts},
        "kinds": dict(kinds.most_common()),
        "languages": dict(languages.most_common()),
        "drops": dict(sorted(drops.items())),
        "staged": state[:12],
    }
    return {
        "version": VERSION,
        "name": spec.name,
        "fingerprint": state,
        "tasks": {spec.task: counts},
        "sources": {spec.name: source},
        "merged_concepts": {"groups": 0, "largest": []},
        "judged": [asdict(one) for one in _judged(done)],
    }
