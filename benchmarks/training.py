"""Pairs trained on a second and peak memory, against sentence-transformers' trainer and open_clip's loss and loop.

    python benchmarks/training.py [--weights FOLDER] [--data FOLDER] [--cache FOLDER] [--json FILE] [--quick]

Pairs of the mini tier: titles with openings and paragraphs in two languages (texts of mixed lengths), and images with
captions. Same weights, same pairs, same batch, same precision (whichever of float32 and bf16 is faster here), the same
parts frozen, one loading process a side; training_sides.py says what a side is. Sides take turns, each first every
other round, with a short run each; a cell is the median of five rounds, in brackets the lowest and highest of one.
Memory is the growth of a process of its own over one run, from the loaded model on: gradients, optimiser, activations.
`of matmul` is our model's own operations forward and backward, counted content by content and so without padding, over
the time, as a share of a matrix product's in that precision. The row with kept features takes the frozen image tower's
outputs from the cache, as the recipes do; the peers have no such thing and decode and encode each image.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measure import QUICK_ROUNDS, ROUNDS, PeakMemory, Spread, Table, alone, interleaved, machine, ratio, run
from benchmarks.subject import model_operations, quiet
from benchmarks.training_sides import Case, OpenClip, Ours, SentenceTransformers
from commonspace.models.precision import resolve_precision

TASKS = {
    "texts: title, opening": "summary",
    "texts: two languages": "crosslingual",
    "image, caption": "image_caption",
}
BATCH, STEPS = 64, 6
QUICK_BATCH, QUICK_STEPS = 4, 2
PEERS = {"sentence-transformers": SentenceTransformers, "open_clip": OpenClip}
COLUMNS = {
    "pairs": ("pairs", ""),
    "peer": ("against", ""),
    "batch": ("batch", ""),
    "ours": ("commonspace, a second", ".1f"),
    "theirs": ("peer, a second", ".1f"),
    "ratio": ("ratio", ".2f"),
    "ours_mb": ("MB", ".0f"),
    "theirs_mb": ("MB, peer", ".0f"),
    "flop_use": ("of matmul", ".0%"),
}


def side_of(name: str, case: Case) -> Ours | SentenceTransformers | OpenClip:
    """A side by its name, its model loaded and its pairs at hand."""
    if name == "ours":
        return Ours(case)
    without_features = replace(case, cache=None)
    return PEERS[name](case, without_features.pairs(Ours(without_features).embedder))


def step_operations(ours: Ours) -> float:
    """Of the mean step of a run, forward and backward."""
    module = ours.case.datamodule(ours.embedder)
    module.workers = 0
    contents = [pieces for batch in module.loader() for pieces in (*batch.query, *batch.positive)]
    return model_operations(ours.embedder, contents, train=True) / ours.case.steps


def measured(side: str, case: dict[str, Any]) -> float:
    """MB by which one run makes this process grow at its peak."""
    quiet()
    trained = side_of(side, _case(case))
    peak = PeakMemory()
    trained()
    return peak.growth() / 1e6


def _plain(case: Case) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(case).items()}


def _case(plain: dict[str, Any]) -> Case:
    folders = {name: Path(plain[name]) if plain[name] else None for name in ("weights", "data", "cache")}
    return Case(**{**plain, **folders})


def cases(options: argparse.Namespace) -> dict[str, Case]:
    """What is trained on, by the name of its row."""
    batch, steps = (QUICK_BATCH, QUICK_STEPS) if options.quick else (BATCH, STEPS)
    precision = "32-true" if options.quick else resolve_precision("auto")
    found = {name: Case(task, batch, steps, precision, options.weights, options.data) for name, task in TASKS.items()}
    kept = replace(found["image, caption"], cache=options.cache)
    return {**found, "image, caption; features kept": kept} if Ours(kept).keeps_features() else found


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    quiet()
    facts, rounds = machine(options.quick), QUICK_ROUNDS if options.quick else ROUNDS
    found = cases(options)
    first = next(iter(found.values()))
    precision = first.precision
    peak = facts["matmul_gflops"][precision] * 1e9
    table = Table(COLUMNS, facts, options.json, f"{precision}, medians of {rounds} rounds of {first.steps - 1} steps")
    for name, case in found.items():
        names = ["ours", "sentence-transformers", *(["open_clip"] if case.task == "image_caption" else [])]
        sides = {side: side_of(side, case) for side in names}
        spent = interleaved(sides, rounds, warm_up=not options.quick)
        held = {side: alone(__file__, side=side, case=_plain(case)) for side in names}
        used = step_operations(sides["ours"]) / Spread.of(spent["ours"]).middle / peak
        for peer in names[1:]:
            table.add(
                pairs=name,
                peer=peer,
                batch=case.batch,
                ours=Spread.of(case.batch / value for value in spent["ours"]),
                theirs=Spread.of(case.batch / value for value in spent[peer]),
                ratio=ratio(spent[peer], spent["ours"]),
                ours_mb=held["ours"],
                theirs_mb=held[peer],
                flop_use=used,
            )


if __name__ == "__main__":
    run(__doc__, main, measured, weights="cache/weights", data="data/mini", cache="cache")
