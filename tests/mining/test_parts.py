"""Work in parts: shared by processes, gone on with after a kill, whole or not at all."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from commonspace.errors import DataError
from commonspace.mining.parts import claimed, job_folder, make_parts, part_paths, read_notes, read_part, write_part

FORK = multiprocessing.get_context("fork")  # what is imported here is not imported again


def work(folder: Path, name: str, pause: float) -> None:
    """Twelve parts, each noted when it is begun."""
    paths = part_paths(folder, 12)

    def make(number: int) -> None:
        with (folder / "made.txt").open("a") as file:
            file.write(f"{name} {number}\n")
        time.sleep(pause)
        write_part(paths[number], {"value": np.array([number])})

    make_parts(paths, make)


def worker(folder: Path, name: str, pause: float) -> BaseProcess:
    process = FORK.Process(target=work, args=(folder, name, pause))
    process.start()
    return process


def made(folder: Path) -> list[str]:
    return (folder / "made.txt").read_text().splitlines() if (folder / "made.txt").exists() else []


def test_two_processes_share_and_one_that_is_killed_is_made_up_for(tmp_path: Path) -> None:
    first, second = worker(tmp_path, "first", 0.1), worker(tmp_path, "second", 0.1)
    while not any(line.startswith("first") for line in made(tmp_path)):
        time.sleep(0.02)
    first.kill()
    first.join()
    second.join(60)
    assert (first.exitcode, second.exitcode) == (-signal.SIGKILL, 0)
    lines = made(tmp_path)
    numbers = [int(line.split()[1]) for line in lines]
    # Each part once, but for the one that died in the making.
    assert sorted(set(numbers)) == list(range(12)) and len(numbers) <= 13
    assert [read_part(path)["value"][0] for path in part_paths(tmp_path, 12)] == list(range(12))


def test_a_second_call_makes_what_is_missing(tmp_path: Path) -> None:
    paths, calls = part_paths(tmp_path, 5), []

    def make(number: int) -> None:
        if number == 3 and len(calls) < 4:
            calls.append(number)
            raise DataError("no space")
        calls.append(number)
        write_part(paths[number], {"value": np.array([number])}, [f"note {number}"])

    with pytest.raises(DataError, match="no space"):
        make_parts(paths, make)
    stray = tmp_path / ".000003.safetensors.1.partial"
    stray.write_bytes(b"left by a process that was killed")
    assert make_parts(paths, make) == 2 and calls == [0, 1, 2, 3, 3, 4] and not stray.exists()
    assert make_parts(paths, make) == 0 and read_notes(paths[4]) == ["note 4"]
    paths[1].unlink()
    assert make_parts(paths, make) == 1


def test_a_damaged_part_is_named_and_made_again(tmp_path: Path) -> None:
    (path,) = part_paths(tmp_path, 1)
    write_part(path, {"value": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="000000.safetensors: was damaged .* run the same command again"):
        read_part(path)
    assert make_parts([path], lambda _: write_part(path, {"value": np.arange(3)})) == 1


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(arrays: dict, path: Path, metadata: dict) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("commonspace.mining.parts.save_file", full)
    with pytest.raises(DataError, match="part.safetensors: cannot be written .*No space left"):
        write_part(tmp_path / "part.safetensors", {})
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_claimed_by_one_process(tmp_path: Path) -> None:
    def ask(answers) -> None:
        for number in (0, 1):
            with claimed(tmp_path, number) as free:
                answers.put(free)

    answers = FORK.SimpleQueue()
    with claimed(tmp_path, 1) as free:
        assert free
        other = FORK.Process(target=ask, args=(answers,))
        other.start()
        other.join()
    assert [answers.get(), answers.get()] == [True, False]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def sleep(seconds: float) -> None:
        raise AssertionError("waits for a process that is not there")

    monkeypatch.setattr("fcntl.lockf", lockf)
    monkeypatch.setattr("commonspace.mining.parts.time.sleep", sleep)
    with pytest.raises(DataError, match=f"{tmp_path}/locks: cannot be locked .{os.strerror(number)}.; .* work="):
        make_parts(part_paths(tmp_path, 2), lambda _: None)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN])
def test_a_lock_of_another_process_is_told_by_either_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def lockf(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", lockf)
    with claimed(tmp_path, 0) as free:
        assert not free


def test_jobs_of_other_options_lie_elsewhere(tmp_path: Path) -> None:
    folder = job_folder(tmp_path, "vectors", model="a", chunk=3)
    assert folder == job_folder(tmp_path, "vectors", chunk=3, model="a") != job_folder(tmp_path, "vectors", model="a")
    assert '"model": "a"' in (folder / "job.json").read_text()
