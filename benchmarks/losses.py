"""Seconds and peak memory of the loss alone, forward and backward, against the batch: whole, in chunks, and peers'.

    python benchmarks/losses.py [--json FILE] [--quick]

Vectors of 384 numbers that exist already; float32. The kernels of one batch size take turns; a cell is the median of
five rounds up to `OFTEN` pairs, in brackets the lowest and highest, and a single call beyond. Memory is the growth of a
process of its own over one call, after a small one. A kernel whose matrix would not fit the free memory is left out and
says what it needs. `both ways` is queries to targets plus targets to queries, which open_clip's loss is (halved).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import psutil
import torch
from open_clip.loss import ClipLoss, SigLipLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor, nn

from benchmarks.measure import (
    QUICK_ROUNDS,
    ROUNDS,
    PeakMemory,
    Spread,
    Table,
    alone,
    interleaved,
    machine,
    run,
    seconds,
)
from commonspace.models.device import best_device
from commonspace.objectives.nce import bidirectional_nce, nce_loss
from commonspace.objectives.nce_options import NCEOptions
from commonspace.objectives.sigmoid import sigmoid_loss

WIDTH, TEMPERATURE, BIAS = 384, 0.02, -10.0
PAIRS, QUICK_PAIRS = tuple(2**n for n in range(10, 17)), (8, 16)
OFTEN = 8192
CHUNK_ROWS = 512
NUMBERS_A_LOGIT = 7  # float32, at the peak of a whole matrix, of any kernel
IN_CHUNKS = NCEOptions(chunk_rows=CHUNK_ROWS)
COLUMNS = {
    "pairs": ("pairs", ""),
    "kernel": ("loss", ""),
    "seconds": ("seconds", ".3f"),
    "mb": ("MB", ".0f"),
    "needs": ("", ""),
}
Kernel = Callable[[Tensor, Tensor], Tensor]


def kernels() -> dict[str, Kernel]:
    """Losses of two sides' vectors [B, E], by name; those in chunks have "chunks" in it."""
    scale, bias = torch.tensor(1 / TEMPERATURE, device=best_device()), torch.tensor(BIAS, device=best_device())
    peer = MultipleNegativesRankingLoss(nn.Identity(), scale=1 / TEMPERATURE)
    clip, siglip = ClipLoss(), SigLipLoss()
    return {
        "one way": lambda q, p: nce_loss(q, p, temperature=TEMPERATURE)[0],
        "one way, chunks": lambda q, p: nce_loss(q, p, temperature=TEMPERATURE, options=IN_CHUNKS)[0],
        "one way, sentence-transformers": lambda q, p: peer.compute_loss_from_embeddings([q, p], None),
        "both ways": lambda q, p: bidirectional_nce(q, p, temperature=TEMPERATURE)[0],
        "both ways, chunks": lambda q, p: bidirectional_nce(q, p, temperature=TEMPERATURE, options=IN_CHUNKS)[0],
        "both ways, open_clip": lambda q, p: clip(_unit(q), _unit(p), scale),
        "sigmoid": lambda q, p: sigmoid_loss(q, p, temperature=TEMPERATURE, bias=bias)[0],
        "sigmoid, open_clip": lambda q, p: siglip(_unit(q), _unit(p), scale, bias),
    }


def _unit(vectors_BE: Tensor) -> Tensor:
    return nn.functional.normalize(vectors_BE, dim=-1)


def step_of(kernel: Kernel, pairs: int) -> Callable[[], None]:
    """Loss and gradient of random vectors, always the same."""
    generator = torch.Generator().manual_seed(0)
    query, positive = (torch.randn(pairs, WIDTH, generator=generator).to(best_device()) for _ in range(2))
    query.requires_grad_(), positive.requires_grad_()

    def step() -> None:
        query.grad = positive.grad = None
        kernel(query, positive).backward()

    return step


def measured(kernel: str, pairs: int) -> dict[str, float]:
    """MB by which one step makes this process grow at its peak, and its seconds."""
    loss = kernels()[kernel]
    step_of(loss, 8)()
    step = step_of(loss, pairs)
    peak = PeakMemory()
    spent = seconds(step)
    return {"mb": peak.growth() / 1e6, "seconds": spent}


def needed(kernel: str, pairs: int) -> float:
    """About how many bytes a kernel takes, from above."""
    rows = CHUNK_ROWS if "chunks" in kernel else pairs
    return 4 * NUMBERS_A_LOGIT * rows * pairs


def free_memory() -> float:
    """Bytes that may be taken."""
    return torch.cuda.mem_get_info()[0] if best_device() == "cuda" else 0.8 * psutil.virtual_memory().available


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    about = f"{WIDTH} numbers a vector, chunks of {CHUNK_ROWS} rows, medians of {rounds} rounds up to {OFTEN} pairs"
    table = Table(COLUMNS, machine(options.quick), options.json, about)
    for pairs in QUICK_PAIRS if options.quick else PAIRS:
        room = free_memory()
        fitting = {name: kernel for name, kernel in kernels().items() if needed(name, pairs) <= room}
        sides = {name: partial(seconds, step_of(kernel, pairs)) for name, kernel in fitting.items()}
        spent = interleaved(sides, rounds) if pairs <= OFTEN else {}
        for name in kernels():
            if name not in fitting:
                table.add(pairs=pairs, kernel=name, needs=f"needs about {needed(name, pairs) / 1e9:.0f} GB")
                continue
            once = alone(__file__, kernel=name, pairs=pairs)
            table.add(pairs=pairs, kernel=name, seconds=Spread.of(spent.get(name, [once["seconds"]])), mb=once["mb"])


if __name__ == "__main__":
    run(__doc__, main, measured)
