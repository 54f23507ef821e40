"""Clients are stand-in scripts on PATH: what is tested is how they are called and what is done with what they give."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from commonspace.errors import DataError
from data_prep import fetch
from data_prep.fetch import downloaded, fetch_all
from data_prep.source import Source


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """What the registries hold."""
    folder = tmp_path / "remote"
    folder.mkdir()
    (folder / "thing-1.0.tgz").write_bytes(b"the pinned bytes")
    return folder


@pytest.fixture
def client(tmp_path: Path, monkeypatch) -> Path:
    """Puts scripts on an otherwise empty PATH; each writes its arguments to <name>.log."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, body: str) -> Path:
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / name}.log\n{body}\n')
        script.chmod(0o755)
        return tmp_path / f"{name}.log"

    return make


def source_with(*packages) -> Source:
    return Source("foxes", packages, "CC0", "made up", frozenset({"tiny"}))


def test_npm_is_called_once_and_its_file_is_kept(tmp_path, remote, client, package_of):
    log = client("npm", f"/bin/cp {remote}/thing-1.0.tgz .")
    source = source_with(package_of(remote / "thing-1.0.tgz", name="@scope/thing"))
    for _ in range(2):
        assert fetch_all([source], tmp_path / "cache") == [tmp_path / "cache/downloads/thing-1.0.tgz"]
    assert (tmp_path / "cache/downloads/thing-1.0.tgz").read_bytes() == b"the pinned bytes"
    calls = log.read_text().splitlines()
    assert len(calls) == 1 and calls[0].startswith("pack --ignore-scripts") and calls[0].endswith("@scope/thing@1.0")
    assert [path.name for path in (tmp_path / "cache/downloads").iterdir()] == ["thing-1.0.tgz"]


def test_two_sources_of_one_package_fetch_it_once(tmp_path, remote, client, package_of):
    log = client("npm", f"/bin/cp {remote}/thing-1.0.tgz .")
    package = package_of(remote / "thing-1.0.tgz")
    fetch_all([source_with(package), replace(source_with(package), name="wolves")], tmp_path / "cache")
    assert len(log.read_text().splitlines()) == 1


def test_apt_first_tries_package_lists_of_its_own(tmp_path, remote, client, package_of):
    log = client("apt-get", f'case "$*" in *" update"*) exit 0;; *) /bin/cp {remote}/thing-1.0.tgz .;; esac')
    fetch_all([source_with(package_of(remote / "thing-1.0.tgz", "apt"))], tmp_path / "cache")
    update, download = log.read_text().splitlines()
    state = f"Dir::State={(tmp_path / 'cache/apt/state').resolve()}"
    assert state in update and " update" in update
    assert state in download and download.endswith("download thing=1.0")


def test_apt_falls_back_to_the_lists_of_the_system(tmp_path, remote, client, package_of):
    log = client("apt-get", f'case "$*" in *Dir::State*) exit 100;; *) /bin/cp {remote}/thing-1.0.tgz .;; esac')
    fetch_all([source_with(package_of(remote / "thing-1.0.tgz", "apt"))], tmp_path / "cache")
    assert log.read_text().splitlines()[-1] == "download thing=1.0"


def test_pip_gets_the_pinned_wheel_whatever_this_machine_is(tmp_path, remote, client, package_of, monkeypatch):
    wheel = remote / "thing-1.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    wheel.write_bytes(b"wheel")
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _name: None)  # an environment without pip
    log = client("pip", f"/bin/cp {wheel} .")
    fetch_all([source_with(package_of(wheel, "pip"))], tmp_path / "cache")
    call = log.read_text()
    assert "download --no-deps --only-binary=:all:" in call and call.strip().endswith("thing==1.0")
    assert "--platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64" in call


def test_a_relative_cache_is_not_looked_for_inside_the_folder_the_client_runs_in(
    tmp_path, remote, client, package_of, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    # $5 follows --pack-destination, as npm reads it: from where it runs
    log = client("npm", f'/bin/cp {remote}/thing-1.0.tgz "$5"')
    fetch_all([source_with(package_of(remote / "thing-1.0.tgz", name="thing"))], Path("cache"))
    assert (tmp_path / "cache/downloads/thing-1.0.tgz").read_bytes() == b"the pinned bytes"
    assert f"--pack-destination {tmp_path}" in log.read_text()


def test_pip_is_not_told_another_python(tmp_path, remote, client, package_of, monkeypatch):
    """`--python-version 3` means 3.0, which no wheel of today is for."""
    wheel = remote / "thing-1.0-py3-none-manylinux_2_17_x86_64.whl"
    wheel.write_bytes(b"wheel")
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _name: None)
    log = client("pip", f"/bin/cp {wheel} .")
    fetch_all([source_with(package_of(wheel, "pip"))], tmp_path / "cache")
    assert "--python-version" not in log.read_text()


def test_a_wheel_of_one_python_is_fetched_under_any(tmp_path, remote, client, package_of, monkeypatch):
    wheel = remote / "thing-1.0-cp311-abi3-macosx_11_0_arm64.whl"
    wheel.write_bytes(b"wheel")
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda _name: None)
    log = client("pip", f"/bin/cp {wheel} .")
    fetch_all([source_with(package_of(wheel, "pip"))], tmp_path / "cache")
    wanted = "--platform macosx_11_0_arm64 --implementation cp --python-version 311 --abi abi3"
    assert wanted in log.read_text()


def test_pip_of_this_python_is_preferred(tmp_path, package_of):
    wheel = tmp_path / "thing-1.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    command = next(iter(fetch._commands(package_of(wheel, "pip"), "foxes", tmp_path, tmp_path)))
    assert command[:3] == [sys.executable, "-m", "pip"] and "--platform" not in command


@pytest.mark.parametrize(("kind", "word"), [("npm", "npm"), ("apt", "apt-get")])
def test_a_missing_client_is_one_message_that_says_what_to_do(tmp_path, remote, client, package_of, kind, word):
    package = package_of(remote / "thing-1.0.tgz", kind)
    with pytest.raises(DataError) as caught:
        fetch_all([source_with(package)], tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(f"foxes: {word} is not on PATH")
    assert package.sha256 in message and "archives=FOLDER" in message


def test_a_client_that_fails_is_quoted(tmp_path, remote, client, package_of):
    client("npm", "echo 'no such version' >&2; exit 1")
    with pytest.raises(DataError, match=r"foxes: npm could not fetch thing 1\.0: no such version"):
        fetch_all([source_with(package_of(remote / "thing-1.0.tgz"))], tmp_path / "cache")
    assert not any((tmp_path / "cache/downloads").iterdir())


@pytest.mark.parametrize(("given", "word"), [(b"other", "has 5 bytes, not 16"), (b"The pinned bytes", "has sha256")])
def test_other_bytes_than_the_pinned_ones_are_not_kept(tmp_path, remote, client, package_of, given, word):
    package = package_of(remote / "thing-1.0.tgz")
    (remote / "changed").write_bytes(given)
    client("npm", f"/bin/cp {remote}/changed thing-1.0.tgz")
    with pytest.raises(DataError, match=f"foxes: npm gave thing-1.0.tgz, which {word}"):
        fetch_all([source_with(package)], tmp_path / "cache")
    assert not any((tmp_path / "cache/downloads").iterdir())


def test_archives_need_no_client(tmp_path, remote, client, package_of):
    package = package_of(remote / "thing-1.0.tgz", "apt")
    assert fetch_all([source_with(package)], tmp_path / "cache", archives=remote)[0].read_bytes() == b"the pinned bytes"


def test_archives_may_hold_an_epoch_in_any_spelling(tmp_path, remote, package_of):
    package = replace(package_of(remote / "thing-1.0.tgz", "apt"), filename="thing_1%3a1.0_all.deb")
    os.rename(remote / "thing-1.0.tgz", remote / "thing_1:1.0_all.deb")
    assert fetch_all([source_with(package)], tmp_path / "cache", archives=remote)[0].name == package.filename


def test_archives_that_lack_a_file_or_hold_another_are_named(tmp_path, remote, package_of):
    package = package_of(remote / "thing-1.0.tgz")
    with pytest.raises(DataError, match=r"foxes: .*empty lacks thing-1\.0\.tgz"):
        fetch_all([source_with(package)], tmp_path / "cache", archives=tmp_path / "empty")
    (remote / "thing-1.0.tgz").write_bytes(b"x")
    with pytest.raises(DataError, match="has 1 bytes, not 16"):
        fetch_all([source_with(package)], tmp_path / "cache", archives=remote)


def test_what_lies_in_the_cache_is_checked_again(tmp_path, remote, package_of):
    package = package_of(remote / "thing-1.0.tgz")
    with pytest.raises(DataError, match="not fetched yet; run `commonspace data fetch`"):
        downloaded(package, "foxes", tmp_path)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads/thing-1.0.tgz").write_bytes(b"the pinned bytez")
    with pytest.raises(DataError, match="has sha256 .* delete it"):
        downloaded(package, "foxes", tmp_path)
