"""Media that annotations name: a download that is completed is picked up, and too little of one is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from commonspace.errors import ConfigError, DataError
from data_prep.public.build import build_public
from data_prep.public.spec import set_of
from tests.data_prep.public import published


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


def counts(name: str, files: Path, **options) -> dict[str, int]:
    manifest = build_public(replace(set_of(name), bytes={}), files, files.parent / "data", workers=1, **options)
    return manifest["tasks"][set_of(name).task]


def moved(paths: list[Path]) -> dict[Path, bytes]:
    """Take files away; what was in them."""
    found = {path: path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()
    return found


@pytest.mark.parametrize("name, pattern", [("coco", "*2014/*.jpg"), ("audiocaps", "t*/*.wav"), ("vatex", "videos/*")])
def test_a_completed_download_is_picked_up(files: Path, name: str, pattern: str) -> None:
    published.SETS[name](files)
    away = moved(sorted(files.glob(pattern))[:2])
    part = counts(name, files, missing=0.7)
    for path, data in away.items():
        path.write_bytes(data)
    whole = counts(name, files, missing=0.7)
    assert sum(whole.values()) == sum(part.values()) + 2
    assert counts(name, files) == whole


def test_a_picture_that_is_downloaded_again_is_picked_up(files: Path) -> None:
    published.coco(files)
    path = files / "train2014/COCO_train2014_000000000100.jpg"
    whole, about = path.read_bytes(), path.stat()
    path.write_bytes(whole[: len(whole) // 2])
    assert counts("coco", files)["train"] == 1
    path.write_bytes(whole)
    assert counts("coco", files)["train"] == 2
    fingerprint = json.loads((files.parent / "data/coco/manifest.json").read_text())["fingerprint"]
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))  # another picture of the same size
    counts("coco", files)
    assert json.loads((files.parent / "data/coco/manifest.json").read_text())["fingerprint"] != fingerprint


def test_files_that_no_row_names_change_nothing(files: Path) -> None:
    published.docci(files)
    counts("docci", files)
    manifest = files.parent / "data/docci/manifest.json"
    before = manifest.stat().st_mtime_ns
    published.put(files / "images/thumbs.db", b"x")
    published.put(files / "images/qual_test_00004.jpg", published.picture(99))  # of a split that is left out
    counts("docci", files)
    assert manifest.stat().st_mtime_ns == before


def test_a_joined_table_that_is_completed_is_picked_up(files: Path) -> None:
    published.recipe1m(files)
    path = files / "layer2.json"
    rows = json.loads(path.read_text())
    published.put_json(path, rows[:2])
    assert counts("recipe1m", files) == {"train": 1, "dev": 1, "heldout": 0}
    published.put_json(path, rows)
    assert counts("recipe1m", files) == {"train": 1, "dev": 1, "heldout": 1}
    path.unlink()
    with pytest.raises(DataError, match=r"layer2\.json: cannot be read"):
        counts("recipe1m", files)


def test_a_download_that_has_not_ended_is_refused(files: Path) -> None:
    published.coco(files)
    pictures = sorted(files.glob("*2014/*.jpg"))
    pictures[0].unlink()
    message = (
        r"files: 1 of the 4 media files that MS-COCO .* names are missing or empty, as train2014/.*100\.jpg\. "
        r"Finish the download, or say missing=0\.25 to build without them"
    )
    with pytest.raises(DataError, match=message):
        counts("coco", files)
    assert not (files.parent / "data").exists()  # before anything is built
    pictures[1].write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of the 4 .* say missing=0\.5 to"):
        counts("coco", files, missing=0.25)
    assert sum(counts("coco", files, missing=0.5).values()) == 2
    with pytest.raises(DataError, match="2 of the 4"):
        counts("coco", files)  # nor is the tier of a smaller part returned for one of all


@pytest.mark.parametrize("missing", [-0.1, 1.5])
def test_what_is_no_share_is_refused(files: Path, missing: float) -> None:
    published.nli(files)
    with pytest.raises(ConfigError, match=f"missing: {missing} is no share of the media files; say 0"):
        counts("nli", files, missing=missing)
