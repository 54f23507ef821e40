"""One process builds a tier at a time: a second call is refused, and what is published is whole."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from data_prep import merge, pack
from data_prep.building import alone
from data_prep.own import build_own
from data_prep.pack import pack_tier, unpack_tier
from data_prep.public import build as public
from data_prep.public.build import build_public
from data_prep.public.spec import set_of
from data_prep.quality import mix as mixture
from data_prep.quality.mix import MixOptions, mix
from tests.data_prep.public import published

FORK = multiprocessing.get_context("fork")  # what is imported here is not imported again
Build = Callable[[], object]


def own(root: Path) -> Build:
    pairs = root / "pairs.jsonl"
    rows = ({"query": f"what is number {n}", "positive": f"a sentence about {n}"} for n in range(40))
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda: build_own(pairs, root / "data")


def of_public(root: Path, **options) -> Build:
    published.nli(root / "files")
    return lambda: build_public(set_of("nli"), root / "files", root / "data", workers=1, **options)


def mixed(root: Path) -> Build:
    own(root)()
    return lambda: mix(["own"], "mix", root / "data", root / "cache", MixOptions(), workers=1)


def unpacked(root: Path) -> Build:
    own(root)()
    archive = pack_tier(root / "data/own", root / "own.tar")
    return lambda: unpack_tier(archive, root / "data")


@pytest.mark.parametrize(
    "name, module, prepare",
    [("own", merge, own), ("nli", public, of_public), ("mix", mixture, mixed), ("own", pack, unpacked)],
)
def test_a_build_that_begins_before_another_publishes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module, prepare: Callable[[Path], Build]
) -> None:
    build, real, tried = prepare(tmp_path), module.replace_folder, []

    def publish(folder: Path, fresh: Path) -> None:
        tried.append(folder)
        if len(tried) == 1:
            with pytest.raises(DataError, match=f"data/{name}: another process builds the tier {name}; wait"):
                build()
        real(folder, fresh)

    monkeypatch.setattr(module, "replace_folder", publish)
    build()
    counts = json.loads((tmp_path / "data" / name / "manifest.json").read_text())["tasks"]
    for task, side in ((task, side) for task, sides in counts.items() for side, count in sides.items() if count):
        reader = ShardReader(tmp_path / "data" / name / task, side)
        reader.verify()
        assert len(reader) == counts[task][side]
    assert len(tried) == 1 and not list((tmp_path / "data").glob(".*")), "nothing lies beside it"
    build()  # free again


def test_a_look_with_another_limit_leaves_the_parts_of_a_running_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, look, real = of_public(tmp_path), of_public(tmp_path, limit=1), public.write_part

    def part(*given) -> None:
        real(*given)
        with pytest.raises(DataError, match="another process builds the tier nli"):
            look()

    monkeypatch.setattr(public, "write_part", part)
    build()
    ShardReader(tmp_path / "data/nli/entailment", "train").verify()


def test_a_part_that_a_worker_of_a_killed_build_finishes_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both write the same part at once; whichever comes second finds it there."""
    build, real, state = of_public(tmp_path), public.write_part, {"pid": 1}
    monkeypatch.setattr(public.os, "getpid", lambda: state["pid"])

    class Reader(public.READERS["pairs"]):
        def records(self, part, drops):
            yield from super().records(part, drops)
            if state["pid"] == 1:
                state["pid"] = 2
                real(*state["given"])
                state["pid"] = 1

    def part(*given) -> None:
        state["given"] = given
        real(*given)

    monkeypatch.setitem(public.READERS, "pairs", Reader)
    monkeypatch.setattr(public, "write_part", part)
    assert build()["tasks"]["entailment"]["train"] > 0
    ShardReader(tmp_path / "data/nli/entailment", "train").verify()


def hold(folder: Path) -> None:
    with alone(folder):
        (folder.parent / "held").touch()
        time.sleep(60)


def test_a_process_that_dies_gives_the_tier_back(tmp_path: Path) -> None:
    process = FORK.Process(target=hold, args=(tmp_path / "tier",))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with pytest.raises(DataError, match="another process builds the tier tier"), alone(tmp_path / "tier"):
        pass
    with alone(tmp_path / "other"):  # a tier of another name
        pass
    process.kill()
    process.join()
    with alone(tmp_path / "tier"):
        pass


def test_a_lock_that_went_away_between_opening_and_taking_it_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who had it before takes its file away: a third process would lock a new one beside the old. It is taken anew."""
    from data_prep import building

    real = building.take_lock

    asked: list[str] = []

    def late(file, *given) -> bool:
        asked.append(file.name)
        if len(asked) == 1:
            os.unlink(file.name)
        return real(file, *given)

    monkeypatch.setattr(building, "take_lock", late)
    with alone(tmp_path / "tier"):
        assert len(asked) == 2
        with pytest.raises(DataError, match="another process builds the tier tier"), alone(tmp_path / "tier"):
            pass
    assert not list(tmp_path.iterdir())


def test_a_build_that_had_its_lock_after_another_ended_takes_what_that_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, real = of_public(tmp_path), public.alone

    @contextmanager
    def late(folder: Path) -> Iterator[None]:
        monkeypatch.setattr(public, "alone", real)
        build()  # by the other process, between this one's look and its lock
        monkeypatch.setattr(public, "_write_parts", lambda *_: pytest.fail("built twice"))
        with real(folder):
            yield

    monkeypatch.setattr(public, "alone", late)
    build()
    ShardReader(tmp_path / "data/nli/entailment", "train").verify()


def test_a_place_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_) -> None:
        raise OSError(38, "Function not implemented")

    build = own(tmp_path)
    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(DataError, match=r"\.own-lock: cannot be locked .Function not implemented.; .*paths.data"):
        build()
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written .*; choose another paths.data"):
        build_own(tmp_path / "pairs.jsonl", tmp_path / "file")
