from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from commonspace.fingerprints import Fingerprints


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    (folder / "speech").mkdir(parents=True)
    (folder / "speech/train.json").write_text("{}")
    (folder / "speech/train.tar").write_bytes(b"abc")
    return folder


def test_bytes_and_names_count_and_dates_do_not(tree: Path, tmp_path: Path) -> None:
    files = Fingerprints(tmp_path / "files.json")
    first = files.of(str(tree))
    os.utime(tree / "speech/train.tar", (1, 1))
    assert files.of(str(tree)) == first
    (tree / "speech/train.tar").write_bytes(b"abd")
    second = files.of(str(tree))
    assert second != first
    (tree / "speech/train.tar").rename(tree / "speech/dev.tar")
    assert files.of(str(tree)) not in (first, second)


def test_a_glob_sees_only_what_it_names(tree: Path, tmp_path: Path) -> None:
    files = Fingerprints(tmp_path / "files.json")
    first = files.of(f"{tree}/*/*.json")
    (tree / "speech/train.tar").write_bytes(b"changed")
    assert files.of(f"{tree}/*/*.json") == first
    (tree / "speech/train.json").write_text("[]")
    assert files.of(f"{tree}/*/*.json") != first


def test_nothing_there_is_none(tmp_path: Path) -> None:
    files = Fingerprints(tmp_path / "files.json")
    (tmp_path / "empty").mkdir()
    for pattern in ("absent", "*/absent.json", "empty", "exists:absent", "exists:empty"):
        kind, _, name = pattern.rpartition(":")
        assert files.of(f"{kind}:{tmp_path}/{name}" if kind else f"{tmp_path}/{name}") is None
    (tmp_path / "empty/file").write_text("")
    assert files.of(f"exists:{tmp_path}/empty") == "there"


def test_half_written_files_do_not_count(tree: Path, tmp_path: Path) -> None:
    files = Fingerprints(tmp_path / "files.json")
    first = files.of(str(tree))
    (tree / "speech/.train.tar.partial").write_text("x")
    assert files.of(str(tree)) == first


def test_known_hashes_are_kept_and_a_broken_store_only_costs_time(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "files.json"
    files = Fingerprints(store)
    first = files.of(str(tree))
    files.save()
    known = json.loads(store.read_text())
    assert set(known) == {str(tree / "speech/train.json"), str(tree / "speech/train.tar")}
    known[str(tree / "speech/train.tar")][2] = "as remembered"
    store.write_text(json.dumps(known))
    assert Fingerprints(store).of(str(tree)) != first, "an unchanged file is not read again"
    store.write_text("{")
    assert Fingerprints(store).of(str(tree)) == first
