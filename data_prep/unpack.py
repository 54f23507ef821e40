"""Archives to folders with the standard library only: nothing in them is executed, installed or trusted.

Wheels and other zips, tars, and Debian packages (an `ar` file around a tar). Every member is checked before its first
byte is written: its path stays inside the folder, and its size and the sum of sizes stay within `Limits`. Links are
never made: one that leaves the folder is an error, an inner one is left out.
"""

from __future__ import annotations

import lzma
import os
import posixpath
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from commonspace.errors import DataError

_CHUNK = 1 << 20
_TAR_COMPRESSIONS = {"": "", ".gz": "gz", ".xz": "xz", ".bz2": "bz2"}


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to. The largest real one has 20,000 members and unpacks to 220 MB, 10 times its size."""

    members: int = 100_000
    member_bytes: int = 500_000_000
    total_bytes: int = 2_000_000_000
    ratio: int = 100  # unpacked to packed, over what any small archive may reach
    ratio_floor_bytes: int = 50_000_000


class _Folder:
    """Writes members below one folder and keeps the sums that `Limits` bounds."""

    def __init__(self, archive: Path, folder: Path, limits: Limits) -> None:
        self.archive, self.folder, self.limits = archive, folder, limits
        self.members = self.bytes = 0
        packed = archive.stat().st_size
        self.most_bytes = min(limits.total_bytes, max(limits.ratio * packed, limits.ratio_floor_bytes))

    def refuse(self, name: str, problem: str) -> DataError:
        return DataError(f"{self.archive.name}: member {name[:200]!r} {problem}; nothing of it was kept, do not use it")

    def inner_path(self, name: str) -> str:
        """The normalised relative path of a member, or an error where it leaves the folder."""
        if "\x00" in name or "\\" in name or name.startswith("/") or (len(name) > 1 and name[1] == ":"):
            raise self.refuse(name, "has an absolute or unusual path")
        path = posixpath.normpath(name)
        if path == ".." or path.startswith("../"):
            raise self.refuse(name, "would be written outside its folder")
        return path

    def check_link(self, name: str, target: str) -> None:
        """A link that is left out must at least point inside: one that does not marks an archive made to do harm."""
        if target.startswith("/"):
            raise self.refuse(name, f"is a link to the absolute path {target[:200]!r}")
        self.inner_path(target)

    def count(self, name: str, size: int) -> None:
        self.members += 1
        if self.members > self.limits.members:
            raise self.refuse(name, f"is one more than the {self.limits.members} that an archive may hold")
        if size > self.limits.member_bytes:
            raise self.refuse(name, f"has {size} bytes, more than the limit of {self.limits.member_bytes}")
        if self.bytes + size > self.most_bytes:
            raise self.refuse(name, f"brings the archive over {self.most_bytes} bytes, as a decompression bomb would")
        self.bytes += size

    def write(self, name: str, stream: IO[bytes], size: int) -> None:
        """Copy `size` bytes; a stream that holds fewer, or more than its header said, is an error."""
        target = self.folder / self.inner_path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            left = size
            while left:
                block = stream.read(min(_CHUNK, left))
                if not block:
                    raise self.refuse(name, f"ends {left} bytes early (truncated archive)")
                out.write(block)
                left -= len(block)
        if stream.read(1):
            raise self.refuse(name, "holds more bytes than its header says")


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> None:
    """Unpack `archive` into `folder`, which appears whole or not at all; does nothing where it is already there.

    Raises:
        DataError: the archive is truncated, broken, of an unknown kind, too large, or has a member that leaves the
            folder.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _read(archive, _Folder(archive, partial, limits or Limits()))
        partial.chmod(0o755)
        os.rename(partial, folder)
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{archive.name}: broken archive ({error}); delete it and fetch it again") from error
    except OSError as error:
        if not folder.is_dir():  # else another process was faster, and its copy is as good
            raise DataError(f"{archive.name}: cannot be unpacked into {folder.parent} ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read(archive: Path, out: _Folder) -> None:
    name = archive.name
    if name.endswith((".whl", ".zip")):
        _read_zip(archive, out)
    elif name.endswith(".deb"):
        with archive.open("rb") as stream, _deb_data(archive, stream) as (data, mode):
            _read_tar(data, mode, out)
    elif name.endswith((".tgz", ".tar", ".tar.gz", ".tar.xz", ".tar.bz2")):
        suffix = ".gz" if name.endswith(".tgz") else "" if name.endswith(".tar") else Path(name).suffix
        with archive.open("rb") as stream:
            _read_tar(stream, _TAR_COMPRESSIONS[suffix], out)
    else:
        raise DataError(f"{name}: not a kind of archive this reads (.whl .zip .tar .tgz .tar.gz .tar.xz .deb)")


def _read_zip(archive: Path, out: _Folder) -> None:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            out.inner_path(info.filename)
            if (info.external_attr >> 28) == 0o12:  # the Unix mode of a symbolic link
                out.check_link(info.filename, _zip_link_target(file, info, out))
                continue
            if not info.is_dir():
                out.count(info.filename, info.file_size)
                with file.open(info) as stream:
                    out.write(info.filename, stream, info.file_size)


def _zip_link_target(file: zipfile.ZipFile, info: zipfile.ZipInfo, out: _Folder) -> str:
    out.count(info.filename, info.file_size)
    target = file.read(info).decode(errors="replace")
    return target if target.startswith("/") else posixpath.join(posixpath.dirname(info.filename), target)


def _read_tar(stream: IO[bytes], compression: str, out: _Folder) -> None:
    with tarfile.open(fileobj=stream, mode=f"r|{compression}") as file:
        for member in file:
            out.inner_path(member.name)
            if member.issym():
                target = member.linkname
                base = "" if target.startswith("/") else posixpath.dirname(member.name)
                out.check_link(member.name, posixpath.join(base, target))
            elif member.islnk():
                out.check_link(member.name, member.linkname)
            elif member.isfile():
                out.count(member.name, member.size)
                content = file.extractfile(member)
                if content is None:
                    raise out.refuse(member.name, "cannot be read")
                out.write(member.name, content, member.size)
            elif not member.isdir():
                raise out.refuse(member.name, "is a device or a pipe")


class _Span:
    """The bytes of one `ar` member, read in order."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self.stream, self.left = stream, size

    def read(self, size: int = -1) -> bytes:
        block = self.stream.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(block)
        return block


@contextmanager
def _deb_data(archive: Path, stream: IO[bytes]) -> Iterator[tuple[_Span, str]]:
    """The payload of a Debian package: the `ar` member data.tar, and how it is compressed.

    `ar` is an 8-byte mark, then per member a 60-byte header (name 16, ..., size 10 at byte 48, end mark 2) and its
    bytes, padded to an even length (deb(5)).
    """
    if stream.read(8) != b"!<arch>\n":
        raise DataError(f"{archive.name}: not a Debian package; delete it and fetch it again")
    whole = archive.stat().st_size
    while len(header := stream.read(60)) == 60 and header[58:] == b"`\n":
        name, digits = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
        if not digits.isdigit() or stream.tell() + int(digits) > whole:
            break
        if name.startswith("data.tar"):
            suffix = name.removeprefix("data.tar")
            if suffix not in _TAR_COMPRESSIONS:
                raise DataError(f"{archive.name}: its data is compressed as {suffix}, which Python 3.11 cannot read")
            yield _Span(stream, int(digits)), _TAR_COMPRESSIONS[suffix]
            return
        stream.seek(int(digits) + int(digits) % 2, os.SEEK_CUR)
    raise DataError(f"{archive.name}: truncated or broken Debian package; delete it and fetch it again")
