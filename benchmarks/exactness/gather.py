"""Several processes against one on the same global batch: real gloo processes, float64.

The gradient that data-parallel training applies, the mean over processes of what each one's backward pass left, is
compared with the gradient of the mean loss over the global batch, written out plainly in one process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.exactness.compare import Distance, distance
from benchmarks.exactness.subject import find
from benchmarks.exactness.toy import contents, gradients, make_encoder

PAIRS, NEGATIVES = 8, 2  # of the global batch


def check(path: str, world: int, folder: Path) -> dict[str, Distance]:
    """Every gathering of the subject at `path`, by name."""
    commands = [
        [sys.executable, "-m", "benchmarks.exactness.gather", path, str(rank), str(world), str(folder)]
        for rank in range(world)
    ]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        for process in processes:
            errors = process.communicate(timeout=300)[1]
            if process.returncode:
                raise RuntimeError(f"{path}, {world} processes: {errors[-3000:]}")
    finally:
        for process in processes:
            process.kill()
    found = torch.load(folder / "gradients.pt", weights_only=True)
    return {name: distance(found[name], reference(path, name)) for name in find(path).gathers}


def reference(path: str, name: str) -> dict[str, torch.Tensor]:
    encoder = make_encoder(frozenset())
    query, positive, *negatives = contents(2 + NEGATIVES, PAIRS)
    vectors = encoder(query), encoder(positive), torch.stack([encoder(negative) for negative in negatives], 1)
    find(path).gathers[name].reference(*vectors).backward()
    return gradients(encoder)


def one_process(path: str, rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    rows = slice(rank * PAIRS // world, (rank + 1) * PAIRS // world)
    found = {}
    for name, gathering in find(path).gathers.items():
        encoder = make_encoder(frozenset())
        query, positive, *negatives = contents(2 + NEGATIVES, PAIRS)[:, rows]
        gathering.loss(encoder, query, positive, torch.stack(negatives, 1), rank, world).backward()
        found[name] = gradients(encoder)
        for gradient in found[name].values():
            dist.all_reduce(gradient)
            gradient /= world
    if rank == 0:
        torch.save(found, folder / "gradients.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # a thread of gloo that lets go of a tensor while the interpreter ends would abort the process


if __name__ == "__main__":
    one_process(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
