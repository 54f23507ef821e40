"""A command as a child process: its output in a log, its time and its peak memory measured."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

_POLL_SECONDS = (0.1, 2.0)  # often at first; later rarely: counting shared pages walks gigabytes of page tables
_GRACE_SECONDS = 30  # for a child to save itself when the recipe is interrupted
_TAIL_LINES = 15
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Progress:
    """A child at work: seconds since its start, bytes its processes hold now and held at most, its last line."""

    seconds: float
    bytes: int
    peak_bytes: int
    line: str


@dataclass(frozen=True)
class Outcome:
    """How a child ended. peak_bytes is of the whole tree of processes, shared pages counted once each sharer's part."""

    status: int
    seconds: float
    peak_bytes: int
    tail: str


def run_command(
    words: Sequence[str], log: Path, *, on_progress: Callable[[Progress], None] = lambda progress: None
) -> Outcome:
    """Run `commonspace WORDS` and wait; when this process is interrupted, so is the child, and it may end cleanly."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started, peak = time.monotonic(), 0
    # A terminal width for the child's tables; its own bars would only fill the log.
    environment = {**os.environ, "COLUMNS": "140", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output, _terminated_as_interrupted():
        child = subprocess.Popen(
            [sys.executable, "-m", "commonspace.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                now = tree_bytes(child.pid)
                peak = max(peak, now)
                on_progress(Progress(time.monotonic() - started, now, peak, last_line(log)))
                try:
                    child.wait(_pause(time.monotonic() - started))
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            _end(child)
            raise
    tail = "\n".join(_lines(log)[-_TAIL_LINES:])
    return Outcome(child.returncode, time.monotonic() - started, peak, tail)


def _pause(elapsed: float) -> float:
    """Seconds to the next look at a child: a tenth of its age, so that even a short one is measured near its end."""
    shortest, longest = _POLL_SECONDS
    return min(longest, max(shortest, elapsed / 10))


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt inside: no child outlives a recipe that a scheduler or `timeout` ends."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def tree_bytes(pid: int) -> int:
    """Memory of a process and its descendants: proportional set size where the system tells it, else resident size."""
    total = 0
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in processes:
        try:
            full = process.memory_full_info()
            total += getattr(full, "pss", full.rss)
        except psutil.AccessDenied:
            total += process.memory_info().rss
        except psutil.Error:  # it ended meanwhile
            continue
    return total


def last_line(log: Path) -> str:
    """The last line of a log that says something, without colours and carriage returns."""
    lines = _lines(log)
    return lines[-1] if lines else ""


def _lines(log: Path, last_bytes: int = 8192) -> list[str]:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - last_bytes))
        text = file.read().decode("utf-8", "replace")
    lines = (_CONTROL.sub("", line).rstrip().rpartition("\r")[2].rstrip() for line in text.split("\n"))
    return [line for line in lines if line.strip()]


def _end(child: subprocess.Popen) -> None:
    """Interrupt the child's whole session; kill it if that does not end it."""
    for number, seconds in ((signal.SIGINT, _GRACE_SECONDS), (signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(child.pid, number)
            child.wait(seconds)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
