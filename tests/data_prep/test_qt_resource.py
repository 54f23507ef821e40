from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
import zstandard

from commonspace.errors import DataError
from data_prep import qt_resource
from data_prep.qt_resource import QtResource


def write_resource(path: Path, files: dict[str, tuple[bytes, str]], version: int = 3, folder: str = "top") -> Path:
    """A .rcc of one folder with these files, each (bytes, "plain" | "zlib" | "zstd"); names may hold slashes."""
    names, data = bytearray(), bytearray()

    def name(text: str) -> int:
        offset = len(names)
        names.extend(struct.pack(">HI", len(text), 0) + text.encode("utf-16-be"))
        return offset

    tail = b"\0" * 8 if version >= 2 else b""
    tree = [struct.pack(">IHII", 0, 2, 1, 1) + tail, struct.pack(">IHII", name(folder), 2, len(files), 2) + tail]
    for file, (content, packing) in files.items():
        flags = {"plain": 0, "zlib": 1, "zstd": 4}[packing]
        packed = {
            "plain": content,
            "zlib": struct.pack(">I", len(content)) + zlib.compress(content),
            "zstd": zstandard.ZstdCompressor().compress(content),
        }[packing]
        tree.append(struct.pack(">IHHHI", name(file), flags, 0, 0, len(data)) + tail)
        data.extend(struct.pack(">I", len(packed)) + packed)
    head = 24 if version >= 3 else 20
    start = head + sum(map(len, tree))
    header = (
        b"qres" + struct.pack(">IIII", version, head, start, start + len(data)) + (b"\0" * 4 if head == 24 else b"")
    )
    path.write_bytes(header + b"".join(tree) + bytes(data) + bytes(names))
    return path


_FILES = {"a.txt": (b"plain", "plain"), "b.qml": (b"z" * 4000, "zlib"), "\u00e9.webp": (b"s" * 4000, "zstd")}


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_packing_of_every_format_is_read(tmp_path: Path, version: int) -> None:
    resource = QtResource(write_resource(tmp_path / "x.rcc", _FILES, version))
    assert resource.names() == [f"top/{name}" for name in _FILES]
    assert {name: resource.read(f"top/{name}") for name in _FILES} == {name: data for name, (data, _) in _FILES.items()}
    assert "top/a.txt" in resource
    with pytest.raises(DataError, match=r"x\.rcc.*top/none"):
        resource.read("top/none")


def test_every_truncation_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    whole = write_resource(tmp_path / "x.rcc", _FILES).read_bytes()
    for end in range(0, len(whole) - 1, 7):
        (tmp_path / "x.rcc").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"x\.rcc"):
            resource = QtResource(tmp_path / "x.rcc")
            for name in resource.names():
                resource.read(name)


def test_a_bomb_and_a_loop_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qt_resource, "MAX_FILE_BYTES", 100)
    resource = QtResource(write_resource(tmp_path / "bomb.rcc", _FILES))
    for name in ("top/b.qml", "top/\u00e9.webp"):
        with pytest.raises(DataError, match=r"bomb\.rcc"):
            resource.read(name)
    looped = bytearray((tmp_path / "bomb.rcc").read_bytes())
    node = 24 + 22  # the folder "top": its first child becomes itself
    looped[node + 10 : node + 14] = struct.pack(">I", 1)
    (tmp_path / "loop.rcc").write_bytes(looped)
    with pytest.raises(DataError, match=r"loop\.rcc.*itself"):
        QtResource(tmp_path / "loop.rcc")


@pytest.mark.parametrize("data", [b"", b"qres", b"PK\x03\x04" * 9, b"qres" + struct.pack(">4I", 9, 20, 20, 20)])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.rcc").write_bytes(data)
    with pytest.raises(DataError, match=r"x\.rcc"):
        QtResource(tmp_path / "x.rcc")
