"""What gradient caching costs and saves: peak memory against the batch, and seconds against a plain step.

    python benchmarks/caching.py [--weights FOLDER] [--json FILE] [--quick]

The compact model on random pairs of short texts, forward and backward with the loss in chunks of rows, in whichever of
float32 and bf16 is faster here. A cached step encodes at most `BUDGET` tokens with a graph at a time. Memory is the
growth of a process of its own over one step after a small one, contents and gradients already there; `beyond` leaves
out the embeddings themselves, the vectors and their gradients, and is to stay flat. A batch that a plain step can hold
is also timed: both kinds take turns, a cell is the median of five rounds, in brackets the lowest and highest. One
forward pass more is 4/3 of the operations. Larger batches are timed once, cached.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks.measure import (
    QUICK_ROUNDS,
    ROUNDS,
    PeakMemory,
    Spread,
    Table,
    alone,
    interleaved,
    machine,
    ratio,
    run,
    seconds,
)
from benchmarks.subject import EVERYTHING, compact_model, plain_stage, text_batch
from commonspace.data.batch import Batch
from commonspace.models.precision import resolve_precision
from commonspace.objectives.gradcache import token_chunks
from commonspace.stages.finetune import FinetuneStage

PAIRS, QUICK_PAIRS = (128, 512, 2048, 8192, 16384), (8, 16)
PLAIN, QUICK_PLAIN = 512, 8  # pairs of the largest plain step
BUDGET, QUICK_BUDGET = 2048, 64
SHORTEST, LONGEST = 4, 12  # words
CHUNK_ROWS = 512
COLUMNS = {
    "pairs": ("pairs", ""),
    "tokens": ("tokens", ""),
    "chunks": ("chunks", ""),
    "cached_mb": ("MB, cached", ".0f"),
    "beyond_mb": ("beyond the embeddings", ".0f"),
    "plain_mb": ("MB, plain", ".0f"),
    "cached_seconds": ("seconds, cached", ".2f"),
    "plain_seconds": ("seconds, plain", ".2f"),
    "cost": ("cached / plain", ".2f"),
}


def step_of(weights: Path, pairs: int, budget: int, precision: str) -> tuple[FinetuneStage, Batch]:
    """A stage and its batch; `budget` is what it encodes with a graph at a time."""
    stage = plain_stage(
        compact_model(weights, ()),
        "summary",
        steps=1,
        bf16=precision == "bf16-mixed",
        cache_tokens=budget,
        chunk_rows=CHUNK_ROWS,
    ).train()
    return stage, text_batch(stage.embedder, pairs, SHORTEST, LONGEST)


def measured(weights: str, pairs: int, budget: int, precision: str) -> dict[str, float]:
    """MB by which one step makes this process grow at its peak, MB of vectors and their gradients, and seconds."""
    stage, batch = step_of(Path(weights), pairs, budget, precision)
    stage.backward_batch(text_batch(stage.embedder, 4, SHORTEST, LONGEST))
    peak = PeakMemory()
    spent = seconds(lambda: stage.backward_batch(batch))
    vectors = 2 * pairs * stage.embedder.embedding_size * torch.float32.itemsize
    return {"mb": peak.growth() / 1e6, "embeddings_mb": 2 * vectors / 1e6, "seconds": spent}


def timed(weights: Path, pairs: int, budget: int, precision: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of cached and plain steps on one batch, in turns."""
    sides = {}
    for name, most in (("cached", budget), ("plain", EVERYTHING)):
        stage, batch = step_of(weights, pairs, most, precision)
        sides[name] = lambda stage=stage, batch=batch: seconds(lambda: stage.backward_batch(batch))
    return interleaved(sides, rounds)


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    quick, facts = options.quick, machine(options.quick)
    precision = "32-true" if quick else resolve_precision("auto")
    budget, rounds = (QUICK_BUDGET, QUICK_ROUNDS) if quick else (BUDGET, ROUNDS)
    table = Table(COLUMNS, facts, options.json, f"{precision}, chunks of {budget} tokens, medians of {rounds} rounds")
    for pairs in QUICK_PAIRS if quick else PAIRS:
        _, batch = step_of(options.weights, pairs, budget, precision)
        lengths = [pieces.tokens for pieces in (*batch.query, *batch.positive)]
        call = {"weights": str(options.weights), "pairs": pairs, "precision": precision}
        cached = alone(__file__, budget=budget, **call)
        row = {
            "pairs": pairs,
            "tokens": sum(lengths),
            "chunks": len(token_chunks(lengths, budget, padded=False)),
            "cached_mb": cached["mb"],
            "beyond_mb": cached["mb"] - cached["embeddings_mb"],
            "cached_seconds": Spread.of([cached["seconds"]]),
        }
        if pairs <= (QUICK_PLAIN if quick else PLAIN):
            spent = timed(options.weights, pairs, budget, precision, rounds)
            row |= {f"{name}_seconds": Spread.of(values) for name, values in spent.items()}
            row["plain_mb"] = alone(__file__, budget=EVERYTHING, **call)["mb"]
            row["cost"] = ratio(spent["cached"], spent["plain"])
        table.add(**row)


if __name__ == "__main__":
    run(__doc__, main, measured, weights="cache/weights")
