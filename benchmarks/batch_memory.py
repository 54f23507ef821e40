"""What a contrastive batch costs: peak memory and seconds of one step, each case in a process of its own.

    python benchmarks/batch_memory.py

Two tables: the loss alone (whole and chunked logits), and a small transformer with its loss (plain and cached). Peak is
the growth of the process's largest resident size over the step, on CPU.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from commonspace.objectives.gradcache import cached_backward, token_chunks
from commonspace.objectives.nce import nce_loss
from commonspace.objectives.nce_options import NCEOptions

EMBEDDING, WIDTH, LAYERS, TOKENS, BUDGET, CHUNK_ROWS = 384, 192, 4, 32, 2048, 512
LOSS_BATCHES = (2048, 4096, 8192)
STEP_BATCHES = (64, 128, 256, 512)


def loss_step(batch: int, chunked: bool) -> Callable[[], None]:
    """Loss and gradient of `batch` pairs of vectors that exist already."""
    query, positive = (torch.randn(batch, EMBEDDING, requires_grad=True) for _ in range(2))
    options = NCEOptions(chunk_rows=CHUNK_ROWS if chunked else None)
    return lambda: nce_loss(query, positive, temperature=0.02, options=options)[0].backward()


def encoder_step(batch: int, cached: bool) -> Callable[[], None]:
    """Encode `batch` pairs of 32 tokens, loss, gradient of all weights."""
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.1, batch_first=True)
    encoder, head = nn.TransformerEncoder(layer, LAYERS), nn.Linear(WIDTH, EMBEDDING)
    items = list(torch.randn(2 * batch, TOKENS, WIDTH))

    def encode(contents: list[Tensor]) -> Tensor:
        return head(encoder(torch.stack(contents)).mean(dim=1))

    def loss(vectors_NE: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return nce_loss(*vectors_NE.chunk(2), temperature=0.02)

    if cached:
        chunks = token_chunks([TOKENS] * len(items), BUDGET)
        return lambda: cached_backward(encode, items, chunks, loss)
    return lambda: loss(encode(items))[0].backward()


CASES = {
    "whole logits": lambda batch: loss_step(batch, False),
    "chunked logits": lambda batch: loss_step(batch, True),
    "plain step": lambda batch: encoder_step(batch, False),
    "cached step": lambda batch: encoder_step(batch, True),
}


def measure(case: str, batch: int) -> None:
    """Print peak growth in MB and seconds of one step, after a small step that loads every kernel."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    CASES[case](8)()
    step = CASES[case](batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    step()
    seconds = time.perf_counter() - started
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, seconds)


def table(title: str, cases: tuple[str, str], batches: tuple[int, ...]) -> None:
    print(f"\n| {title} | {cases[0]} MB | {cases[1]} MB | {cases[0]} s | {cases[1]} s |\n|---|---|---|---|---|")
    for batch in batches:
        commands = [[sys.executable, __file__, case, str(batch)] for case in cases]
        results = [subprocess.run(c, capture_output=True, text=True, check=True).stdout.split() for c in commands]
        peaks, seconds = zip(*((float(peak), float(spent)) for peak, spent in results), strict=True)
        print(f"| {batch} | {peaks[0]:.0f} | {peaks[1]:.0f} | {seconds[0]:.2f} | {seconds[1]:.2f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        table("pairs, loss only", ("whole logits", "chunked logits"), LOSS_BATCHES)
        table("pairs, encoder and loss", ("plain step", "cached step"), STEP_BATCHES)
