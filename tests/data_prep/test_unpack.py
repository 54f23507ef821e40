from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from commonspace.errors import DataError
from data_prep.unpack import Limits, unpack


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def deb_of(path: Path, files: dict[str, bytes], compression: str = "xz") -> Path:
    """A Debian package as dpkg lays it out: debian-binary, control.tar, data.tar."""
    data = tar_of(
        path.with_suffix(".data"),
        [(member(f"./{name}"), content) for name, content in files.items()],
        f"w:{compression}",
    )
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{compression}": data.read_bytes()}
    with path.open("wb") as out:
        out.write(b"!<arch>\n")
        for name, content in parts.items():
            out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            out.write(content + b"\n" * (len(content) % 2))
    data.unlink()
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FILES = {"usr/share/a.txt": b"alpha", "usr/share/deep/b.bin": bytes(range(256)) * 9}


@pytest.mark.parametrize("kind", ["thing.deb", "thing.tgz", "thing.tar", "thing.tar.xz", "thing.whl", "thing.zip"])
def test_every_kind_of_archive_gives_its_files(tmp_path, kind):
    path = tmp_path / kind
    if kind.endswith(".deb"):
        deb_of(path, FILES)
    elif kind.endswith((".whl", ".zip")):
        zip_of(path, FILES)
    else:
        mode = {"thing.tgz": "w:gz", "thing.tar": "w", "thing.tar.xz": "w:xz"}[kind]
        tar_of(path, [(member(name), data) for name, data in FILES.items()], mode)
    unpack(path, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted([kind, "out"])  # nothing half-done beside it


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    unpack(tmp_path / "does-not-exist.zip", tmp_path / "out")
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/etc/evil", "c:/evil", "a\\..\\..\\evil"])
@pytest.mark.parametrize("kind", ["x.tgz", "x.zip"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, name, kind):
    path = tmp_path / kind
    if kind == "x.zip":
        with zipfile.ZipFile(path, "w") as file:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # a constructor would clean it
            file.writestr(info, b"!")
    else:
        tar_of(path, [(member("fine.txt"), b"ok"), (member(name), b"!")])
    with pytest.raises(DataError, match="evil"):
        unpack(path, tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == [kind]
    assert not (tmp_path.parent / "evil.txt").exists()


@pytest.mark.parametrize(
    ("info", "word"),
    [
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), "absolute path"),
        (member("sub/link", tarfile.SYMTYPE, "../../out"), "outside"),
        (member("link", tarfile.LNKTYPE, "../out"), "outside"),
        (member("pipe", tarfile.FIFOTYPE), "device or a pipe"),
        (member("disk", tarfile.BLKTYPE), "device or a pipe"),
    ],
)
def test_links_that_leave_and_devices_are_refused(tmp_path, info, word):
    with pytest.raises(DataError, match=word):
        unpack(tar_of(tmp_path / "x.tgz", [(info, b"")]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_symbolic_link_in_a_zip_is_refused_when_it_leaves(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        info = zipfile.ZipInfo("sub/link")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "../../../etc/passwd")
    with pytest.raises(DataError, match="outside"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_inner_links_are_left_out(tmp_path):
    path = tar_of(tmp_path / "x.tgz", [(member("sub/a"), b"a"), (member("sub/link", tarfile.SYMTYPE, "../sub/a"), b"")])
    unpack(path, tmp_path / "out")
    assert contents(tmp_path / "out") == {"sub/a": b"a"}


@pytest.mark.parametrize("kind", ["bomb.zip", "bomb.tgz", "bomb.deb"])
def test_a_decompression_bomb_is_refused_before_it_fills_the_disk(tmp_path, kind):
    zeros = bytes(3_000_000)
    if kind == "bomb.zip":
        path = zip_of(tmp_path / kind, {"zeros": zeros})
    elif kind == "bomb.tgz":
        path = tar_of(tmp_path / kind, [(member("zeros"), zeros)])
    else:
        path = deb_of(tmp_path / kind, {"zeros": zeros})
    with pytest.raises(DataError, match="decompression bomb"):
        unpack(path, tmp_path / "out", Limits(ratio_floor_bytes=1_000_000))
    assert not (tmp_path / "out").exists()


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path):
    path = zip_of(tmp_path / "x.zip", {"zeros": bytes(100_000)})
    data = bytearray(path.read_bytes())
    honest = struct.pack("<I", 100_000)
    for place in (data.find(honest), data.rfind(honest)):
        data[place : place + 4] = struct.pack("<I", 10)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"x\.zip"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("limits", "word"),
    [(Limits(members=2), "one more than the 2"), (Limits(member_bytes=9), "more than the limit of 9")],
)
def test_too_many_and_too_large_members_are_refused(tmp_path, limits, word):
    path = tar_of(tmp_path / "x.tgz", [(member(f"{number}"), b"0123456789"[: 8 + number]) for number in range(3)])
    with pytest.raises(DataError, match=word):
        unpack(path, tmp_path / "out", limits)


@pytest.mark.parametrize("kind", ["x.deb", "x.tgz", "x.zip"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_truncated_archive_is_named(tmp_path, kind, share):
    files = {"a": zlib.compress(bytes(range(256)) * 200) * 40, "b": b"end"}
    if kind == "x.deb":
        path = deb_of(tmp_path / kind, files)
    elif kind == "x.zip":
        path = zip_of(tmp_path / kind, files)
    else:
        path = tar_of(tmp_path / kind, [(member(name), data) for name, data in files.items()])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=kind):
        unpack(path, tmp_path / "out")
    assert [item.name for item in tmp_path.iterdir()] == [kind]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    with pytest.raises(DataError, match="not a kind of archive"):
        unpack(tmp_path / "x.rar", tmp_path / "out")
    (tmp_path / "x.deb").write_bytes(b"PK\x03\x04 no ar file")
    with pytest.raises(DataError, match="not a Debian package"):
        unpack(tmp_path / "x.deb", tmp_path / "out")
