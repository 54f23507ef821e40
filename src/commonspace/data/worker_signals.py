"""Decoding processes outlive a signal that ends the job: the training process decides when they go."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """SIGTERM waits while workers start: they inherit the mask, and so do threads that libraries start as they fork,
    one of which would else take the signal and end the worker.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def heed_only_the_parent(worker: int) -> None:
    """For a loader's `worker_init_fn`: schedulers signal every process of a job, workers too, and a worker that dies
    takes the step under way with it, before it can be saved. SIGTERM counts from the parent alone.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()


def _wait_for_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
