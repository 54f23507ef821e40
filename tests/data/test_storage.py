"""Places that fsspec reads: in memory, and a server of this machine that does or does not serve byte ranges."""

from __future__ import annotations

import pickle
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from commonspace.data import storage
from commonspace.data.storage import RemoteFolder, is_remote, place
from commonspace.errors import StorageError

FILES = {"a.tar": b"0123456789", "b.json": b"{}"}


class Server(BaseHTTPRequestHandler):
    """Serves `FILES`, whole or by ranges; `refused` requests are answered with an error first."""

    ranges, refused, asked = True, 0, 0

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        type(self).asked += 1
        data, wanted = FILES.get(Path(self.path).name), re.match(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if type(self).refused > 0:
            type(self).refused -= 1
            data, status = b"", 503
        elif data is None:
            data, status = b"", 404
        elif wanted and self.ranges:
            data, status = data[int(wanted[1]) : int(wanted[2]) + 1], 206
        else:
            status = 200
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(storage, "_WAITS", (0.0, 0.0))
    for name, value in (("ranges", True), ("refused", 0), ("asked", 0)):
        monkeypatch.setattr(Server, name, value)
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}/data"
    running.shutdown()
    running.server_close()


@pytest.fixture
def memory() -> Iterator[str]:
    system = fsspec.filesystem("memory")
    for name, data in FILES.items():
        system.pipe(f"/storage/{name}", data)
    yield "memory://storage"
    system.rm("/storage", recursive=True)


def test_paths_stay_paths_and_urls_keep_their_slashes(tmp_path: Path) -> None:
    assert place(str(tmp_path)) == tmp_path == place(tmp_path)
    folder = place("s3://bucket/data/") / "mini"
    assert str(folder) == "s3://bucket/data/mini" and folder.name == "mini" and place(folder) is folder
    assert is_remote("simplecache::https://x/y") and not is_remote("/data/x")


@pytest.mark.parametrize("where", ["memory", "server"])
def test_files_are_read_whole_and_in_parts(where: str, request: pytest.FixtureRequest) -> None:
    folder = pickle.loads(pickle.dumps(RemoteFolder(request.getfixturevalue(where))))  # noqa: S301
    assert (folder / "b.json").read_text() == "{}" and (folder / "a.tar").exists()
    assert not (folder / "c.tar").is_file()
    assert folder.sizes(["a.tar", "b.json"]) == [10, 2]
    assert folder.read_ranges([("a.tar", 2, 3), ("b.json", 0, 1), ("a.tar", 8, 5)]) == [b"234", b"{", b"89"]
    with pytest.raises(FileNotFoundError):
        (folder / "c.tar").read_bytes()
    with (folder / "a.tar").open() as file:
        assert file.read() == FILES["a.tar"]


def test_a_server_that_fails_for_a_while_is_asked_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "refused", 2)
    assert (RemoteFolder(server) / "a.tar").read_bytes() == FILES["a.tar"]
    monkeypatch.setattr(Server, "refused", 3)
    with pytest.raises(StorageError, match=r"a\.tar: cannot be reached, asked 3 times .*503.* check network"):
        (RemoteFolder(server) / "a.tar").read_bytes()


def test_a_server_without_ranges_is_named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "ranges", False)
    with pytest.raises(StorageError, match=r"a\.tar: the server sends the whole file.*simplecache::"):
        RemoteFolder(server).read_ranges([("a.tar", 2, 3)])


def test_a_protocol_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="nonsense://x: .*nonsense"):
        RemoteFolder("nonsense://x").exists()
