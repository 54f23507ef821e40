"""Splits made of the shards of others: the same records, no copy, and nothing left where they cannot be joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from commonspace.content import Content, Image
from commonspace.data import shard_join
from commonspace.data.sample import Record, Variant
from commonspace.data.shard_join import join_split
from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError


def split(folder: Path, name: str, numbers: range, max_bytes: float = 7000) -> ShardReader:
    """A split of several tars."""
    with ShardWriter(folder / name, "image_caption", "train", {name: f"licence of {name}"}, max_bytes) as writer:
        for number in numbers:
            picture, caption = Content(Image(b"\x89PNG" + bytes([number]) * 1500)), Content(f"caption {number}")
            sides = (Variant(picture),), (Variant(caption, "en"),)
            writer.write(Record(f"r{number}", "image_caption", name, f"c{number}", *sides))
    return ShardReader(folder / name, "train")


def test_rows_that_are_kept_read_as_before(tmp_path: Path) -> None:
    one, two = split(tmp_path, "one", range(6)), split(tmp_path, "two", range(10, 14))
    keep = np.array([True, False, False, False, True, True])
    licences = {**one.licences, **two.licences}
    assert len(one.shards) == 3
    assert join_split(tmp_path / "both", "image_caption", "train", [(one, keep), (two, None)], licences) == 7
    both = ShardReader(tmp_path / "both", "train")
    both.verify()
    assert [record.key for record in both] == ["r0", "r4", "r5", "r10", "r11", "r12", "r13"]
    assert both.licences == {"one": "licence of one", "two": "licence of two"}
    old = [one.read(row) for row in (0, 4, 5)] + list(two)
    assert [record.queries[0].content.digest() for record in both] == [
        record.queries[0].content.digest() for record in old
    ]
    # a tar without a kept row is not taken; the others are one file under two names
    assert [shard["file"] for shard in both.shards] == [f"train-{number:05d}.tar" for number in range(4)]
    assert (tmp_path / "both/train-00001.tar").samefile(tmp_path / "one/train-00002.tar")


def test_a_file_system_without_links_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(shard_join.os, "link", refuse)
    one = split(tmp_path, "one", range(3))
    join_split(tmp_path / "copy", "image_caption", "train", [(one, None)], one.licences)
    assert [record.key for record in ShardReader(tmp_path / "copy", "train")] == ["r0", "r1", "r2"]
    assert not (tmp_path / "copy/train-00000.tar").samefile(tmp_path / "one/train-00000.tar")


def test_a_key_of_two_tars_names_both_and_leaves_nothing(tmp_path: Path) -> None:
    one, two = split(tmp_path, "one", range(3)), split(tmp_path, "two", range(2, 5))
    with pytest.raises(DataError, match="key 'r2' is in .*one/train-0000.*tar and .*two/train-00000.tar, and 1 keys"):
        join_split(tmp_path / "both", "image_caption", "train", [(one, None), (two, None)], one.licences)
    assert list((tmp_path / "both").iterdir()) == []


def test_a_split_without_a_row_is_not_written(tmp_path: Path) -> None:
    one = split(tmp_path, "one", range(3))
    assert join_split(tmp_path / "none", "image_caption", "train", [(one, np.zeros(3, bool))], one.licences) == 0
    assert list((tmp_path / "none").iterdir()) == []
