"""Texts embedded a second: this project's embedder and sentence-transformers on the same weights and texts.

    python benchmarks/embed.py [WEIGHTS]

WEIGHTS is a folder in the Hugging Face layout (default: the text encoder that `commonspace data fetch` leaves in the
cache). Both sides run in one process and take turns, so that other work on the machine slows both alike; a cell is the
median of `ROUNDS`. The vectors are compared first: before the head, both are the mean of the encoder's last states.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer

from commonspace import Content, Embedder
from commonspace.models.build import CompactOptions, build_compact
from commonspace.models.embedder import token_batches
from commonspace.processing.preprocessing import Preprocessing

ROUNDS, TEXTS, BATCH_TOKENS = 5, 192, 8192
WORDS = "a red fox in deep snow looks at the small house by the frozen river and waits for the first light".split()
LENGTHS = {"8 words": (8, 8), "32 words": (32, 32), "128 words": (128, 128), "mixed, 2 to 200": (2, 200)}


def texts(shortest: int, longest: int, seed: int = 0) -> list[str]:
    """Texts of random words; lengths are spread evenly over their logarithm, as captions and pages are."""
    draw = np.random.default_rng(seed)
    lengths = np.exp(draw.uniform(np.log(shortest), np.log(longest + 1), TEXTS)).astype(int)
    return [" ".join(draw.choice(WORDS, length)) for length in lengths]


def ours(embedder: Embedder, given: Sequence[str]) -> np.ndarray:
    """Pooled states before the head, by the batching of `Embedder.embed_pieces`."""
    pieces = [embedder.processor(Content(text)) for text in given]
    out_ND = torch.empty(len(pieces), embedder.backbone.width)
    with torch.no_grad():
        for rows in token_batches([one.tokens for one in pieces], BATCH_TOKENS):
            out_ND[rows] = embedder.pool([pieces[row] for row in rows])
    return out_ND.numpy()


def seconds(run: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def main(weights: Path) -> None:
    """Print a table of texts a second, ours and the peer's, and their ratio."""
    options = CompactOptions(backbone=weights.name, vision=None, audio=None)
    embedder = build_compact(options, Preprocessing(), weights=str(weights.parent))
    peer = SentenceTransformer(modules=[word := Transformer(str(weights)), Pooling(word.get_embedding_dimension())])
    print(f"{torch.get_num_threads()} threads, float32, {TEXTS} texts a row, medians of {ROUNDS}\n")
    print("| texts | commonspace, a second | sentence-transformers, a second | ratio |\n|---|---|---|---|")
    for name, span in LENGTHS.items():
        given = texts(*span)
        runs = {
            "ours": lambda given=given: ours(embedder, given),
            "peer": lambda given=given: peer.encode(given, batch_size=32, show_progress_bar=False),
        }
        np.testing.assert_allclose(runs["ours"](), runs["peer"](), atol=1e-4)
        spent: dict[str, list[float]] = {side: [] for side in runs}
        for _ in track(range(ROUNDS), description=name, transient=True):
            for side, run in runs.items():
                spent[side].append(seconds(run))
        rates = {side: TEXTS / statistics.median(values) for side, values in spent.items()}
        ratio = rates["ours"] / rates["peer"]
        print(f"| {name} | {rates['ours']:.0f} | {rates['peer']:.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "cache/weights/multilingual-e5-small"))
