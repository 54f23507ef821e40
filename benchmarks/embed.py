"""Items embedded a second and peak memory: this project's embedder against sentence-transformers on the same weights.

    python benchmarks/embed.py [--weights FOLDER] [--json FILE] [--quick]

The folder has the pretrained parts (cache/weights, where `commonspace data fetch weights=true` and a first use leave
them). Both sides run in one process and take turns, each going first every other round; a cell is the median of five
rounds, in brackets the lowest and highest of one round. Each side reads the same items, decoding included, in float32
at its own defaults, but the peer at whichever of `BATCH_SIZES` it is fastest with. Memory is the growth of a process of
its own over one call, after a first one on two items. The last column is our model's own operations, counted content by
content and so without padding, over the time, as a share of a float32 matrix product's measured on this machine.
embed_sides.py says what each side computes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.embed_sides import RATE, Item, Ours, Peer, check_same_weights, content_of, jpeg
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
from benchmarks.subject import model_operations, quiet, texts

BATCH_SIZES = (16, 32, 128)
COLUMNS = {
    "items": ("items", ""),
    "count": ("", ""),
    "ours": ("commonspace, a second", ".1f"),
    "peer": ("sentence-transformers, a second", ".1f"),
    "peer_batch": ("its batch", ""),
    "ratio": ("ratio", ".2f"),
    "ours_mb": ("MB", ".0f"),
    "peer_mb": ("MB, peer", ".0f"),
    "flop_use": ("of matmul", ".0%"),
}


def rows(quick: bool = False) -> dict[str, list[Item]]:
    """What is embedded, by the name of its row; the same in every process."""
    draw = np.random.default_rng(0)
    if quick:
        mixture: list[Item] = [*texts(4, 2, 20, draw), jpeg(64, 48, draw), sound(1, draw)]
        return {"texts, 2 to 20 words": texts(8, 2, 20, draw), "4 texts, 1 image, 1 sound": mixture}
    short, mixed = texts(256, 4, 12, draw), texts(128, 2, 200, draw)
    images, sounds = [jpeg(320, 240, draw) for _ in range(64)], [sound(3, draw) for _ in range(16)]
    together: list[Item] = [*mixed[:64], *images[:32], *sounds[:8]]
    return {
        "texts, 4 to 12 words": short,
        "texts, 128 words": texts(48, 128, 128, draw),
        "texts, 2 to 200 words": mixed,
        "images, 320 x 240": images,
        "sounds, 3 s": sounds,
        "sounds, 30 s": [sound(30, draw) for _ in range(6)],
        "64 texts, 32 images, 8 sounds": [together[row] for row in draw.permutation(len(together))],
    }


def sound(length: float, draw: np.random.Generator) -> np.ndarray:
    """So many seconds of noise, float32 [n]."""
    return draw.normal(0, 0.1, int(length * RATE)).astype(np.float32)


def fastest_batch(peer: Peer, items: Sequence[Item], sizes: Sequence[int]) -> int:
    """The size the peer takes these items fastest with, each tried once after a first call."""
    spent = {}
    for size in (sizes[0], *sizes):
        peer.batch_size = size
        spent[size] = seconds(lambda: peer(items))
    return min(spent, key=spent.get)


def measured(side: str, row: str, batch_size: int, weights: str, quick: bool) -> float:
    """MB by which embedding a row makes this process grow at its peak."""
    quiet()
    items = rows(quick)[row]
    embed = Ours(Path(weights)) if side == "ours" else Peer(Path(weights))
    embed.batch_size = batch_size
    firsts = {type(item): item for item in items}
    embed([*firsts.values()] * 2)
    peak = PeakMemory()
    embed(items)
    return peak.growth() / 1e6


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    quiet()
    ours, peer = Ours(options.weights), Peer(options.weights)
    check_same_weights(ours, peer, "a red fox in deep snow")
    facts = machine(options.quick)
    peak = facts["matmul_gflops"]["32-true"] * 1e9
    count = QUICK_ROUNDS if options.quick else ROUNDS
    table = Table(COLUMNS, facts, options.json, f"float32, medians of {count} rounds")
    for name, items in rows(options.quick).items():
        peer.batch_size = fastest_batch(peer, items, BATCH_SIZES[:1] if options.quick else BATCH_SIZES)
        sides = {"ours": lambda items=items: seconds(lambda: ours(items))}
        spent = interleaved({**sides, "peer": lambda items=items: seconds(lambda: peer(items))}, count)
        call = {"row": name, "batch_size": peer.batch_size, "weights": str(options.weights), "quick": options.quick}
        pieces = [ours.embedder.processor(content_of(item)) for item in items]
        used = model_operations(ours.embedder, pieces, train=False) / peak
        table.add(
            items=name,
            count=len(items),
            ours=Spread.of(len(items) / value for value in spent["ours"]),
            peer=Spread.of(len(items) / value for value in spent["peer"]),
            peer_batch=peer.batch_size,
            ratio=ratio(spent["peer"], spent["ours"]),
            ours_mb=alone(__file__, side="ours", **call),
            peer_mb=alone(__file__, side="peer", **call),
            flop_use=used / Spread.of(spent["ours"]).middle,
        )


if __name__ == "__main__":
    run(__doc__, main, measured, weights="cache/weights")
