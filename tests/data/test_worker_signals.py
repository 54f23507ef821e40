"""Workers outlive the signals of a scheduler, and go when their parent says so."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import get_context
from threading import Thread

import pytest

from commonspace.data.worker_signals import heed_only_the_parent, held_back


def work(ready) -> None:
    Thread(target=time.sleep, args=(60,), daemon=True).start()  # as some libraries start theirs at a fork
    heed_only_the_parent(0)
    ready.set()
    time.sleep(60)


@pytest.fixture
def worker():
    context = get_context("fork")
    ready = context.Event()
    process = context.Process(target=work, args=(ready,), daemon=True)
    with held_back():
        process.start()
    assert ready.wait(10)
    yield process
    process.kill()


def send_from_a_stranger(target: int, number: signal.Signals) -> None:
    """A signal from a process that is not the parent."""
    stranger = get_context("fork").Process(target=os.kill, args=(target, number))
    stranger.start()
    stranger.join(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_strangers_are_not_heeded(worker, number) -> None:
    send_from_a_stranger(worker.pid, number)
    worker.join(0.3)
    assert worker.is_alive()


def test_the_parent_is(worker) -> None:
    worker.terminate()
    worker.join(5)
    assert worker.exitcode == 0
