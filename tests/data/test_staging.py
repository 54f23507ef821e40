"""Shards copied to a node's own disk: whole, once, and never another version's."""

from __future__ import annotations

import shutil
from collections import namedtuple
from multiprocessing import get_context
from pathlib import Path

import pytest

from commonspace.configuration import compose
from commonspace.data import staging
from commonspace.data.shards import ShardReader
from commonspace.data.staging import stage_shards
from commonspace.errors import ConfigError, DataError, StorageError
from tests.stages.training import write_pairs

TASKS = ["image_caption", "summary"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "data/made", train=8, dev=4)
    return tmp_path / "data"


def test_what_is_read_there_is_what_is_read_here(data: Path, tmp_path: Path) -> None:
    staged = stage_shards(data, "made", TASKS, tmp_path / "node")
    for task in TASKS:
        for split in ("train", "dev"):
            here, there = ShardReader(data / "made" / task, split), ShardReader(staged / "made" / task, split)
            there.verify()
            assert there.fingerprint == here.fingerprint and [r.key for r in there] == [r.key for r in here]


def test_only_what_is_drawn_is_copied_and_only_once(data: Path, tmp_path: Path, monkeypatch) -> None:
    staged = stage_shards(data, "made", TASKS[1:], tmp_path / "node")
    assert [path.name for path in (staged / "made").iterdir() if path.is_dir()] == ["summary"]
    monkeypatch.setattr(staging.shutil, "copyfile", lambda *_: pytest.fail("copied again"))
    assert stage_shards(data, "made", TASKS[1:], tmp_path / "node") == staged


def test_a_copy_that_was_cut_short_goes_on(data: Path, tmp_path: Path) -> None:
    staged = stage_shards(data, "made", TASKS, tmp_path / "node")
    (cut,) = (staged / "made/summary").glob("train-*.tar")
    cut.write_bytes(cut.read_bytes()[:100])
    (staged / "made/image_caption/train.json").unlink()
    stage_shards(data, "made", TASKS, tmp_path / "node")
    for task in TASKS:
        ShardReader(staged / "made" / task, "train").verify()


def test_changed_shards_lie_beside_the_old_ones(data: Path, tmp_path: Path) -> None:
    first = stage_shards(data, "made", TASKS, tmp_path / "node")
    shutil.rmtree(data)
    write_pairs(data / "made", train=10, dev=4)
    second = stage_shards(data, "made", TASKS, tmp_path / "node")
    assert first != second
    assert [len(ShardReader(folder / "made/summary", "train")) for folder in (first, second)] == [8, 10]


def one_process(data: Path, node: Path) -> None:
    ShardReader(stage_shards(data, "made", TASKS, node) / "made/summary", "train").verify()


def test_processes_of_a_node_wait_for_the_first(data: Path, tmp_path: Path) -> None:
    processes = [get_context("fork").Process(target=one_process, args=(data, tmp_path / "node")) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4


def test_what_does_not_fit_or_is_not_there_is_said(data: Path, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(DataError, match="absent.train.json: no such split"):
        stage_shards(data, "made", ["absent"], tmp_path / "node")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file.*: cannot be written"):
        stage_shards(data, "made", TASKS, tmp_path / "file")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: usage(free=10))
    with pytest.raises(StorageError, match=r"0.0 GB free, and the shards take .* GB"):
        stage_shards(data, "made", TASKS, tmp_path / "other")


@pytest.mark.parametrize("root, words", [("evaluate", ["embedder=chance"]), ("train", ["paths.data=s3://bucket/data"])])
def test_where_nothing_would_be_copied_it_is_refused(root: str, words: list[str]) -> None:
    with pytest.raises(ConfigError, match="paths.local"):
        compose(root, [*words, "paths.local=/node"])
