"""What a figure has to be traced to: the code, the packages and the machine it came from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from commonspace.data.storage import RemoteFolder

SNAPSHOT = "snapshot.json"
_CODE = (
    "*.py",
    "*.yaml",
    "*.sh",
    "*.sbatch",
    ":(exclude)tests",
    ":(exclude)docs",
)  # new files that may change a figure


def code_state(folder: str | Path | None = None) -> dict[str, Any]:
    """Commit, whether the code differs from it, and the hash of that difference; all None outside a checkout.

    docs/ is left out: a recipe's own steps write the tables there, and no figure comes from them. A snapshot
    (`commonspace launch`) says what it was taken of, wherever it lies, and the digest that names it.
    """
    root = Path(folder) if folder else Path(__file__).resolve().parents[3]
    if (taken := snapshot_state(root)) is not None:
        return {name: taken[name] for name in ("commit", "dirty", "diff_sha256")} | {"snapshot": root.name}
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None, "diff_sha256": None}
    difference = code_difference(root) or ""
    digest = hashlib.sha256(difference.encode()).hexdigest() if difference else None
    return {"commit": commit, "dirty": bool(difference), "diff_sha256": digest}


def code_difference(folder: str | Path | None = None) -> str | None:
    """What a checkout has beyond its commit: tracked files, docs/ left out, and new ones among code and configs.

    None outside a checkout. Of a snapshot what there was when it was taken: it may lie inside a checkout that has been
    edited since.
    """
    root = Path(folder) if folder else Path(__file__).resolve().parents[3]
    if (taken := snapshot_state(root)) is not None:
        return taken.get("difference")
    tracked = _git(root, "diff", "HEAD", "--", ":(top,exclude)docs")
    if tracked is None:
        return None
    whole = _git(root, "rev-parse", "--show-toplevel") == str(
        root.resolve()
    )  # an installed package lies inside another's
    names = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *_CODE) if whole else None
    new = [(name, root / name) for name in (names or "").split("\0") if name]
    added = [f"new file {name}\n{file.read_text(errors='replace')}" for name, file in new if file.is_file()]
    return "\n".join([*([tracked] if tracked else []), *added])


def data_state(
    tier: Path | RemoteFolder, tasks: Iterable[str], splits: Sequence[str] = ("train", "dev")
) -> dict[str, str]:
    """{"task/split": sha256 of its index}: an index holds the hashes of its shards, so it stands for their bytes.

    Tasks without such a split are left out.
    """
    files = {f"{task}/{split}": tier / task / f"{split}.json" for task in tasks for split in splits}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file.exists()}


def snapshot_state(root: Path) -> dict[str, Any] | None:
    """What a snapshot of the code says of itself; None for a folder that is none."""
    file = root / SNAPSHOT
    return json.loads(file.read_text()) if file.is_file() else None


def lock_state(folder: str | Path | None = None) -> dict[str, Any]:
    """Hash of requirements.lock where it lies beside the sources, and the versions that matter most in any case."""
    from importlib.metadata import PackageNotFoundError, version

    lock = (Path(folder) if folder else Path(__file__).resolve().parents[3]) / "requirements.lock"
    versions = {}
    for name in ("torch", "torchvision", "pytorch-lightning", "transformers", "timm", "peft", "wandb"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None
    return {"lock_sha256": digest, "python": platform.python_version(), **versions}


def hardware_state() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, and GPUs by name."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
