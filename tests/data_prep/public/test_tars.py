"""Tars that were cut: wherever the end is, a row that is lost is no secret."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest

from commonspace.errors import DataError
from data_prep.public import tars
from data_prep.public.tars import _rows
from tests.data_prep.public import published

BLOCK = tarfile.BLOCKSIZE
MEMBERS = {"a.jpg": bytes(range(256)) * 3, "a.txt": b"one", "b.jpg": bytes(range(256)) * 4, "b.txt": b"two"}
END = 2 * 2 * BLOCK + (BLOCK + 2 * BLOCK) * 2  # of the last member; the end mark begins
SIZE = tarfile.RECORDSIZE


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    published.put_tar(tmp_path / "whole.tar", MEMBERS)
    data = (tmp_path / "whole.tar").read_bytes()
    assert len(data) == SIZE and not data[END:].strip(b"\0")
    return data


@pytest.mark.parametrize("cut", range(0, SIZE + 1, BLOCK))
@pytest.mark.parametrize("more", [0, 1, 100, BLOCK - 1])
def test_a_tar_cut_before_its_end_mark_is_refused(tmp_path: Path, whole: bytes, cut: int, more: int) -> None:
    path, length = tmp_path / "cut.tar", min(cut + more, SIZE)
    path.write_bytes(whole[:length])
    if length < END + BLOCK:
        with pytest.raises(DataError, match=r"cut\.tar: ends early or is broken .* rows; download it again"):
            list(_rows(path))
    else:
        assert [stem for stem, _ in _rows(path)] == ["a", "b"]


def test_a_header_that_is_no_header_does_not_end_the_rows(tmp_path: Path, whole: bytes) -> None:
    path, second = tmp_path / "bad.tar", 2 * 2 * BLOCK + BLOCK
    path.write_bytes(whole[:second] + b"<html>" + whole[second + 6 :])
    with pytest.raises(DataError, match=r"bad\.tar: ends early or is broken \(bad checksum, where a member or the end"):
        list(_rows(path))


def test_a_compressed_tar_that_is_cut_is_refused_or_whole(tmp_path: Path, whole: bytes) -> None:
    path, packed, refused = tmp_path / "cut.tar.gz", gzip.compress(whole), 0
    for length in range(0, len(packed) + 1, 8):
        path.write_bytes(packed[:length])
        try:
            assert [stem for stem, _ in _rows(path)] == ["a", "b"]
        except DataError as error:
            assert "ends early or is broken" in str(error)
            refused += 1
    assert refused > 10
    path.write_bytes(packed)
    assert dict(_rows(path))["b"] == {"jpg": MEMBERS["b.jpg"], "txt": b"two"}


def test_long_names_take_more_headers_than_one(tmp_path: Path) -> None:
    path, name = tmp_path / "long.tar", "n" * 150
    published.put_tar(path, {f"{name}.jpg": b"x", f"{name}.txt": b"y"})
    assert [stem for stem, _ in _rows(path)] == [name]
    data = path.read_bytes()
    for cut in range(BLOCK, 8 * BLOCK, BLOCK):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match="ends early or is broken"):
            list(_rows(path))


def test_a_row_that_is_larger_than_memory_should_hold_is_refused(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "whole.tar"
    monkeypatch.setattr(tars, "_MOST_BYTES", 1024 + len(b"two"))
    assert [stem for stem, _ in _rows(path)] == ["a", "b"]  # of each row, not of all
    monkeypatch.setattr(tars, "_MOST_BYTES", 1024 + len(b"two") - 1)
    with pytest.raises(DataError, match=r"whole\.tar: b: its members have 1027 bytes up to 'b\.txt', at most 1026 of"):
        list(_rows(path))
    monkeypatch.setattr(tars, "_MOST_BYTES", 700)
    with pytest.raises(DataError, match=r"whole\.tar: a: its members have 768 bytes up to 'a\.jpg', at most 700 of a"):
        list(_rows(path))
