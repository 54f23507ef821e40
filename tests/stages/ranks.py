"""Processes of a test: over gloo, each running the same cases one after the other, each case within a time limit.

What fails is told at once: the rank, the case, and where every rank stood at that moment. A rank leaves without
unwinding its interpreter, whose destructors of process groups may wait for collectives that nobody will join.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

LIMIT = 60.0  # seconds for one case, and for the first to start: two are enough where nothing else runs
_SHOWN = 40  # lines of a rank's stack
_LOADING = 300.0  # seconds until a rank must have begun; none are counted against its first case
_LOADED = ["tests.stages.processes", "tests.stages.training"]
Work = Callable[[Any], dict[str, torch.Tensor]]


def run(
    work: Work, cases: Mapping[str, Any], world: int, folder: Path, limit: float = LIMIT
) -> list[dict[str, dict[str, torch.Tensor]]]:
    """{case: work(case)} of every rank; AssertionError where one raised, or did not end a case within `limit` seconds.

    What tests of stages import is loaded once, in a server whose forks the ranks are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED)
    given = [(work, dict(cases), rank, world, folder) for rank in range(world)]
    ranks = [context.Process(target=_one_rank, args=arguments, daemon=True) for arguments in given]
    for process in ranks:
        process.start()
    try:
        _watch(ranks, folder, limit)
    finally:
        for process in ranks:
            process.kill()
            process.join()
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


def _watch(ranks: list[BaseProcess], folder: Path, limit: float) -> None:
    """Return when all ranks are through."""
    begun = time.time()
    while any(process.exitcode is None for process in ranks):
        for rank, process in enumerate(ranks):
            case = folder / f"{rank}.case"
            since = case.stat().st_mtime if case.exists() else begun + _LOADING
            if process.exitcode is None and time.time() - since > limit:
                place = _stacks(ranks, folder)
                raise AssertionError(f"rank {rank} did not end {_read(case)!r} in {limit:g} s\n{place}")
        if any(process.exitcode for process in ranks):
            break
        time.sleep(0.02)
    for rank, process in enumerate(ranks):
        assert not process.exitcode, f"rank {rank}: {_read(folder / f'{rank}.error')} (exit {process.exitcode})"


def _stacks(ranks: list[BaseProcess], folder: Path) -> str:
    """Where each rank is now, and in which case."""
    for process in ranks:
        if process.is_alive():
            os.kill(process.pid, signal.SIGUSR2)
    time.sleep(0.5)
    lines: list[str] = []
    for rank in range(len(ranks)):
        lines.append(f"rank {rank}, in {_read(folder / f'{rank}.case')!r}:")
        lines += _read(folder / f"{rank}.stack").splitlines()[:_SHOWN]
    return "\n".join(lines)


def _read(file: Path) -> str:
    """What a rank wrote there; nothing where it has not come so far."""
    return file.read_text() if file.exists() else ""


def _one_rank(work: Work, cases: Mapping[str, Any], rank: int, world: int, folder: Path) -> None:
    with (folder / f"{rank}.stack").open("w") as stack:
        faulthandler.register(signal.SIGUSR2, file=stack, all_threads=False)
        threading.Thread(target=_leave_with_parent, daemon=True).start()
        try:
            _take_part(work, cases, rank, world, folder)
        except BaseException:
            (folder / f"{rank}.error").write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)


def _leave_with_parent() -> None:
    """Nobody watches this rank any more."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _take_part(work: Work, cases: Mapping[str, Any], rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    # With LOCAL_RANK set, Lightning takes this process for one of several and starts no others.
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    case, found = folder / f"{rank}.case", {}
    case.write_text("the meeting")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    for name, given in cases.items():
        case.write_text(name)
        found[name] = work(given)
    case.write_text("the parting")
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()
