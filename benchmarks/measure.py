"""What all benchmarks share: turns of several sides, peak memory, operations, the machine's facts, and the table.

A script has `main(options)`, which prints one table, and where memory is measured `measured(**call)`, which one process
of its own does for one call: `python SCRIPT --alone CALL`. Every side of a comparison runs in one run of the script.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from commonspace.evaluation.results import current_commit
from commonspace.models.device import best_device

ROUNDS, QUICK_ROUNDS = 5, 1
PACKAGES = ("torch", "transformers", "pytorch-lightning", "sentence-transformers", "open-clip-torch")
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, with their lowest and highest; printed alone where there is no spread to show."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, spec: str) -> str:
        if self.low == self.high:  # of one call
            return f"{self.middle:{spec}}"
        return f"{self.middle:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def seconds(run: Callable[[], object]) -> float:
    """Wall seconds of one call, a GPU's work included."""
    started = time.perf_counter()
    run()
    if best_device() == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def interleaved(
    sides: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """What each side gives in each round, by side: sides take turns, and each other round in the opposite order.

    `warm_up` puts a round before the first that does not count.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1 if warm_up else 0, rounds):
        for name in sorted(sides, reverse=number % 2 == 1):
            value = sides[name]()
            if number >= 0:
                found[name].append(value)
    return found


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Of two sides' rounds: the ratio of the medians, and the lowest and highest ratio of one round."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return Spread(statistics.median(above) / statistics.median(below), min(each), max(each))


class PeakMemory:
    """Bytes by which this process (on a GPU: its allocated memory) grew at most since the making of this."""

    def __init__(self) -> None:
        gc.collect()
        if best_device() == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return
        if hasattr(trim := ctypes.CDLL(None), "malloc_trim"):
            trim.malloc_trim(0)  # what was freed counts as used until then, and would hide growth
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now
        self.before = self._peak()

    def growth(self) -> int:
        """Bytes, so far."""
        return (torch.cuda.max_memory_allocated() if best_device() == "cuda" else self._peak()) - self.before

    @staticmethod
    def _peak() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])


def alone(script: str, **call: Any) -> Any:
    """What `measured(**call)` of a script gives in a process of its own; RuntimeError with the end of its output."""
    command = [sys.executable, script, "--alone", json.dumps(call)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{script} {call}: failed\n{done.stdout[-500:]}{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def operations(run: Callable[[], object]) -> int:
    """Additions and multiplications of the matrix products and convolutions of one call, backward passes included."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def matmul_peak(dtype: torch.dtype, size: int = 2048, repeats: int = 8) -> float:
    """Operations a second of this machine's matrix product, the best of some."""
    left, right = (torch.randn(size, size, device=best_device(), dtype=dtype) for _ in range(2))

    def product() -> None:
        left @ right

    product()
    return 2 * size**3 / min(seconds(product) for _ in range(repeats))


def machine(quick: bool = False) -> dict[str, Any]:
    """What figures depend on: device, cores, threads, memory, speed of a matrix product by type, versions."""
    size = 256 if quick else 2048
    peaks = {name: matmul_peak(dtype, size) / 1e9 for name, dtype in DTYPES.items()}
    device = torch.cuda.get_device_name() if best_device() == "cuda" else platform.machine()
    return {
        "device": f"{best_device()} ({device})",
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "matmul_gflops": {name: round(peak) for name, peak in peaks.items()},
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


class Table:
    """A markdown table, printed row by row below the machine's facts; where asked its rows go to a JSON-lines file too.

    columns  {key of a row: (heading, format)}; a value that is None or missing prints as a dash
    """

    def __init__(
        self,
        columns: Mapping[str, tuple[str, str]],
        facts: Mapping[str, Any],
        file: Path | None = None,
        about: str = "",
    ) -> None:
        self.columns, self.file = columns, file
        command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *(["--quick"] * ("--quick" in sys.argv))])
        self.shared = {"about": about, "machine": dict(facts), "commit": current_commit(), "command": command}
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
        print("; ".join(f"{name} {value}" for name, value in facts.items()))
        print(f"{about}\n")
        print(f"| {' | '.join(heading for heading, _ in columns.values())} |")
        print("|" + "---|" * len(columns), flush=True)

    def add(self, **row: Any) -> None:
        """Print and keep one row; in the file it brings the machine, the commit and the command."""
        cells = [
            "-" if row.get(key) is None else format(row[key], spec if not isinstance(row[key], str) else "")
            for key, (_, spec) in self.columns.items()
        ]
        print(f"| {' | '.join(cells)} |", flush=True)
        plain = {key: asdict(value) if is_dataclass(value) else value for key, value in row.items()}
        if self.file is not None:
            with self.file.open("a") as lines:
                lines.write(json.dumps({**plain, **self.shared}, ensure_ascii=False) + "\n")


def run(
    doc: str | None,
    main: Callable[[argparse.Namespace], object],
    measured: Callable[..., Any] | None = None,
    **folders: str,
) -> None:
    """The command line of a script: `--quick`, `--json FILE`, and a folder for each of `folders` (name: default)."""
    made = parser(doc, **folders)
    if measured is not None:
        made.add_argument("--alone", help=argparse.SUPPRESS)
    options = made.parse_args()
    if measured is not None and options.alone is not None:
        print(json.dumps(measured(**json.loads(options.alone))))
    else:
        main(options)


def parser(doc: str | None, **folders: str) -> argparse.ArgumentParser:
    """The options of a script's `main`, see `run`."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--quick", action="store_true", help="few items and one round: shows that it runs, no more")
    made.add_argument("--json", type=Path, help="file for the rows, one JSON object a line")
    for name, default in folders.items():
        made.add_argument(f"--{name}", type=Path, default=Path(default), help=f"folder, {default} by default")
    return made
