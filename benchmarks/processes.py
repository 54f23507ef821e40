"""Pairs trained on a second by one process and by two that share the same batch.

    python benchmarks/processes.py [--weights FOLDER] [--json FILE] [--quick]

The compact model on random pairs of texts of mixed lengths, whole optimiser steps in float32. Two processes take half
of the batch each, gather each other's vectors over gloo and average gradients. A process has as many threads as the row
says: two processes of one thread and one process of two have the same cores. Setups take turns, each with processes of
its own; a cell is the median of five rounds, in brackets the lowest and highest. `averaging` is the share of a step's
time in the reduction of gradients, the wait for the other process included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import nn

from benchmarks.measure import QUICK_ROUNDS, ROUNDS, Spread, Table, interleaved, machine, ratio, run, seconds
from benchmarks.subject import compact_model, plain_stage, text_batch
from commonspace.data.batch import Batch
from commonspace.objectives.gather import average_gradients
from commonspace.stages.optimiser import make_optimiser

PAIRS, QUICK_PAIRS = 64, 8
STEPS = 2  # of a round, after one that does not count
SETUPS = {"1 process, 1 thread": (1, 1), "2 processes, 1 thread each": (2, 1), "1 process, 2 threads": (1, 2)}
COLUMNS = {
    "setup": ("", ""),
    "pairs": ("pairs", ""),
    "seconds": ("seconds a step", ".2f"),
    "rate": ("pairs a second", ".1f"),
    "speedup": ("times one process of one thread", ".2f"),
    "averaging": ("averaging", ".1%"),
}


def share_of(batch: Batch, rank: int, world: int) -> Batch:
    """The rows of one process."""
    rows = slice(rank * len(batch) // world, (rank + 1) * len(batch) // world)
    sliced = ("query", "positive", "negatives", "query_ids", "positive_ids", "sources")
    return replace(batch, **{name: getattr(batch, name)[rows] for name in sliced})


def one_process(rank: int, world: int, threads: int, folder: str, weights: str, pairs: int) -> None:
    """Train some steps; the first process leaves its seconds in the folder."""
    torch.set_num_threads(threads)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    embedder = compact_model(Path(weights), ()).cpu()
    stage = plain_stage(embedder, "summary", steps=STEPS, bf16=False).train()
    optimiser, _ = make_optimiser(embedder, stage.settings, STEPS)
    batch = share_of(text_batch(embedder, pairs, 2, 64), rank, world)
    steps, averaging = [], []
    for _ in range(STEPS + 1):
        spent = seconds(partial(backward, stage, optimiser, batch))
        averaging.append(seconds(partial(average_gradients, stage.parameters(), stage.group)))
        steps.append(spent + averaging[-1] + seconds(partial(update, stage, optimiser)))
    if rank == 0:
        found = {"seconds": statistics.mean(steps[1:]), "averaging": sum(averaging[1:]) / sum(steps[1:])}
        (Path(folder) / "found.json").write_text(json.dumps(found))
    if world > 1:
        dist.destroy_process_group()


def backward(stage: Any, optimiser: torch.optim.Optimizer, batch: Batch) -> None:
    """Fresh gradients."""
    optimiser.zero_grad(set_to_none=True)
    stage.backward_batch(batch)


def update(stage: Any, optimiser: torch.optim.Optimizer) -> None:
    """One clipped step."""
    nn.utils.clip_grad_norm_([p for p in stage.parameters() if p.grad is not None], stage.settings.clip_norm)
    optimiser.step()


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    pairs, rounds = (QUICK_PAIRS, QUICK_ROUNDS) if options.quick else (PAIRS, ROUNDS)
    setups = dict(list(SETUPS.items())[:2]) if options.quick else SETUPS
    shares: dict[str, list[float]] = {name: [] for name in setups}

    def train(name: str) -> float:
        world, threads = setups[name]
        with tempfile.TemporaryDirectory() as folder:
            given = (world, threads, folder, str(options.weights), pairs)
            multiprocessing.spawn(one_process, given, nprocs=world)
            found = json.loads((Path(folder) / "found.json").read_text())
        shares[name].append(found["averaging"])
        return found["seconds"]

    table = Table(
        COLUMNS, machine(options.quick), options.json, f"float32, medians of {rounds} rounds of {STEPS} steps"
    )
    spent = interleaved({name: partial(train, name) for name in setups}, rounds, warm_up=False)
    alone = spent["1 process, 1 thread"]
    for name in setups:
        table.add(
            setup=name,
            pairs=pairs,
            seconds=Spread.of(spent[name]),
            rate=Spread.of(pairs / value for value in spent[name]),
            speedup=ratio(alone, spent[name]),
            averaging=statistics.median(shares[name]) if setups[name][0] > 1 else None,
        )


if __name__ == "__main__":
    run(__doc__, main, weights="cache/weights")
