"""`commonspace doctor`: what this machine has, what is missing and how to get it; or whether model folders hold."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "transformers", "timm", "peft", "wandb", "hydra-core", "av")
CODECS = {
    "decode": ("h264", "vp9", "av1", "gif", "aac", "opus", "vorbis", "mp3", "flac", "gsm"),
    "encode": ("libx264", "libopus"),
}
# program: (what it is for, how to get it)
PROGRAMS = {
    "apt-get": ("Debian sources of the data", "use archives=FOLDER with files fetched elsewhere"),
    "npm": ("npm sources of the data", "apt-get install npm, or archives=FOLDER"),
    "git": ("the commit of a run", "apt-get install git"),
    "sbatch": ("launcher=slurm and slurm/", "apt-get install slurm-wlm, or ask the cluster's administrator"),
}
NEEDED_GB = 25  # environment 7, downloads 0.7, shards, features, checkpoints and models of the mini tier


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and, where something is missing, what to do."""

    what: str
    found: str
    advice: str = ""


def main(arguments: Sequence[str]) -> int:
    """Print all findings; the exit status is 1 where something the recipe needs is missing, or a model has changed.

    Raises WeightsError for a model folder that is missing, damaged, or gives other vectors than it was saved with.
    """
    parser = argparse.ArgumentParser("commonspace doctor", description="What this machine has, and what is missing.")
    parser.add_argument("models", nargs="*", help="model folders: check these instead, against their golden vectors")
    parser.add_argument("--folder", default=".", help="where data, cache, runs and models will lie")
    options = parser.parse_args(list(arguments))
    looked = [model(Path(name)) for name in options.models] or list(examine(Path(options.folder)))
    width = max(len(finding.what) for finding in looked)
    for finding in looked:
        print(f"{'!' if finding.advice else ' '} {finding.what:<{width}}  {finding.found}")
        if finding.advice:
            print(f"  {'':<{width}}  -> {finding.advice}")
    return int(any(finding.what in ("packages", "media", "disk") and finding.advice for finding in looked))


def examine(folder: Path) -> Iterator[Finding]:
    """Every finding for a machine whose data would lie in `folder`."""
    yield packages()
    yield processor()
    yield from graphics()
    yield matmul_speed()
    yield media()
    yield from programs()
    yield disk(folder)


def model(folder: Path) -> Finding:
    """A model folder against its own golden vectors; WeightsError where they differ or it cannot be read."""
    from commonspace.models.embedder import Embedder
    from commonspace.models.folder import check_golden, read_json

    worst = check_golden(Embedder.load(folder), folder)
    count = len(read_json(folder / "golden.json"))
    return Finding(str(folder), f"gives its {count} golden vectors, to within {worst:.1e}")


def packages() -> Finding:
    """Versions of the packages that matter most."""
    from importlib.metadata import PackageNotFoundError, version

    versions, missing = [f"python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    advice = f"missing: {', '.join(missing)}; run `make setup`" if missing else ""
    return Finding("packages", ", ".join(versions), advice)


def processor() -> Finding:
    """Cores and memory this process may use."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 1e9
    return Finding("processor", f"{cores} cores, {memory:.0f} GB", "the mini recipe wants 10 GB" if memory < 10 else "")


def graphics() -> Iterator[Finding]:
    """GPUs by name and memory."""
    import torch

    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        yield Finding(f"gpu {index}", f"{about.name}, {about.total_memory / 1e9:.0f} GB")
    if not torch.cuda.is_available():
        yield Finding("gpu", "none; everything runs on the CPU")


def matmul_speed(size: int = 1024, repeats: int = 5) -> Finding:
    """Best speed of a matrix product in float32 and bfloat16 on this CPU, in 10^9 operations a second."""
    import torch

    speeds = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
        seconds = []
        for _ in range(repeats + 1):  # the first one warms up
            started = time.perf_counter()
            left @ right
            seconds.append(time.perf_counter() - started)
        speeds[name] = 2 * size**3 / min(seconds[1:]) / 1e9
    faster = max(speeds, key=speeds.get)
    return Finding("matmul", f"fp32 {speeds['fp32']:.0f}, bf16 {speeds['bf16']:.0f} GFLOP/s: {faster} is faster")


def media() -> Finding:
    """Codecs of PyAV, libsndfile and libvips, which read every medium."""
    missing = [name for name in ("av", "soundfile", "soxr", "pyvips") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("media", "", f"missing: {', '.join(missing)}; run `make setup`")
    import av
    import pyvips
    import soundfile

    lacking = []
    for kind, names in CODECS.items():
        for name in names:
            try:
                av.Codec(name, "r" if kind == "decode" else "w")
            except ValueError:
                lacking.append(f"{name} ({kind})")
    svg = pyvips.type_find("VipsForeignLoad", "svgload") != 0
    vips = ".".join(str(pyvips.version(part)) for part in (0, 1, 2))
    found = f"av {av.__version__}, libsndfile {soundfile.__libsndfile_version__}, libvips {vips}"
    lacking += [] if svg else ["svg"]
    return Finding("media", found, f"cannot {', '.join(lacking)}; reinstall av and pyvips-binary" if lacking else "")


def programs() -> Iterator[Finding]:
    """Programs that some commands call."""
    for name, (purpose, advice) in PROGRAMS.items():
        path = shutil.which(name)
        yield Finding(name, path or f"not found; for {purpose}", "" if path else advice)


def disk(folder: Path) -> Finding:
    """Free space where data and models will lie."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    advice = f"the mini recipe takes up to {NEEDED_GB} GB; set paths.* to another disk" if free < NEEDED_GB else ""
    return Finding("disk", f"{free:.0f} GB free at {there}", advice)
