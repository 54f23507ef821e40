"""Records' bytes near and far: what is gone stops a run, and what is far is fetched at once."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from commonspace.data.storage import RemoteFolder
from commonspace.data.tar_bytes import LocalTars, RemoteTars, tars_of
from commonspace.errors import StorageError

DATA = bytes(range(100))


@pytest.fixture(params=["local", "remote"])
def tars(request: pytest.FixtureRequest, tmp_path: Path) -> LocalTars | RemoteTars:
    if request.param == "local":
        (tmp_path / "a.tar").write_bytes(DATA)
        return tars_of(tmp_path)
    fsspec.filesystem("memory").pipe("/tars/a.tar", DATA)
    return tars_of(RemoteFolder("memory://tars"))


def test_parts_are_read_and_short_where_the_tar_ends(tars: LocalTars | RemoteTars) -> None:
    assert tars.sizes(["a.tar", "b.tar"])[1] is None and tars.sizes(["a.tar"]) == [100]
    tars.fetch([("a.tar", 10, 5)])
    assert tars.read("a.tar", 10, 5) == DATA[10:15] == tars.read("a.tar", 10, 5)
    assert tars.read("a.tar", 95, 50) == DATA[95:]


def test_a_tar_that_is_gone_is_no_fault_of_a_record(tars: LocalTars | RemoteTars) -> None:
    with pytest.raises(StorageError, match=r"b\.tar"):
        tars.read("b.tar", 0, 5)


def test_what_is_fetched_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").pipe("/tars/a.tar", DATA)
    asked: list[list] = []
    read = RemoteFolder.read_ranges
    monkeypatch.setattr(RemoteFolder, "read_ranges", lambda folder, r: asked.append(list(r)) or read(folder, r))
    tars = RemoteTars(RemoteFolder("memory://tars"))
    ranges = [("a.tar", start, 10) for start in range(0, 50, 10)]
    tars.fetch(ranges)
    assert [tars.read(*place) for place in ranges] == [DATA[start : start + 10] for start in range(0, 50, 10)]
    assert asked == [ranges]
    tars.fetch([])
    tars.read("a.tar", 0, 10)
    assert len(asked) == 2
