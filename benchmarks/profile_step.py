"""Where the time of a training step goes, part by part.

    python benchmarks/profile_step.py [--weights FOLDER] [--json FILE] [--quick]

Steps of fine-tuning as benchmarks/training.py takes them, its parts frozen alike, in whichever of float32 and bf16 is
faster here, on made-up pairs: photographs of 320 x 240 with captions, and titles with openings. Decoding is what the
loading process spends on a batch, beside the step and not in it; shares are of the step. Of a frozen tower there is no
backward pass. A cell is the median of five steps after a first one, in brackets the lowest and highest.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.embed_sides import Item, content_of, jpeg
from benchmarks.measure import QUICK_ROUNDS, ROUNDS, Spread, Table, machine, run, seconds
from benchmarks.subject import compact_model, plain_stage, quiet, text_batch, texts
from commonspace.data.batch import Batch
from commonspace.models.device import best_device
from commonspace.models.precision import resolve_precision
from commonspace.objectives.step import GradientStep
from commonspace.stages.finetune import FinetuneStage

PAIRS, QUICK_PAIRS = 64, 4
COLUMNS = {"pairs": ("pairs", ""), "part": ("part", ""), "spent": ("seconds a step", ".3f"), "share": ("share", ".0%")}


class Watch:
    """Seconds of the calls of some methods, by the name of a part."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    def on(self, part: str, owner: Any, method: str) -> None:
        """Count a method of an object from now on."""
        plain: Callable[..., Any] = getattr(owner, method)

        def counted(*args: Any, **options: Any) -> Any:
            if best_device() == "cuda":
                torch.cuda.synchronize()
            found = []
            self.spent[part] += seconds(lambda: found.append(plain(*args, **options)))
            return found[0]

        setattr(owner, method, counted)


def watched(stage: FinetuneStage) -> Watch:
    """A watch on the parts of a stage's forward pass and its loss."""
    watch, backbone = Watch(), stage.embedder.backbone
    for name, tower in backbone.towers().items():
        watch.on(f"{name} tower, forward", tower, "forward")
        watch.on(f"{name} connector, forward", getattr(backbone, f"{name}_connector"), "forward")
        watch.on(f"{name} connector, forward", getattr(backbone, f"{name}_connector"), "summary")
    watch.on("transformer, forward", backbone.text, "forward")
    watch.on("encode", stage, "_encode")
    watch.on("loss, forward", stage, "loss_of")
    return watch


def one_step(stage: FinetuneStage, watch: Watch, batch: Batch, step: GradientStep) -> dict[str, float]:
    """Seconds of each part of one step; together they are the step."""
    watch.spent.clear()
    whole = seconds(lambda: stage.backward_batch(batch))
    optimiser = seconds(step)
    spent = dict(watch.spent)
    encode, loss = spent.pop("encode"), spent.pop("loss, forward")
    return {
        **spent,
        "embedding, pooling, head: forward": encode - sum(spent.values()),
        "loss, forward": loss,
        "backward": whole - encode - loss,
        "clipping and optimiser": optimiser,
    }


def batch_of(stage: FinetuneStage, items: Sequence[Item], task: str) -> tuple[Batch, float]:
    """Queries and then as many positives as a batch, and the seconds that reading them takes."""
    pairs, pieces = len(items) // 2, []
    spent = seconds(lambda: pieces.extend(stage.embedder.processor(content_of(item)) for item in items))
    plain = text_batch(stage.embedder, pairs, 1, 1, task)
    return replace(plain, query=pieces[:pairs], positive=pieces[pairs:]).to(stage.embedder.device), spent


def main(options: argparse.Namespace) -> None:
    """Print the table."""
    quiet()
    rounds, pairs = (QUICK_ROUNDS, QUICK_PAIRS) if options.quick else (ROUNDS, PAIRS)
    precision = "32-true" if options.quick else resolve_precision("auto")
    draw = np.random.default_rng(0)
    pictures: list[Item] = [*(jpeg(320, 240, draw) for _ in range(pairs)), *texts(pairs, 4, 12, draw)]
    items = {"image_caption": pictures, "summary": [*texts(pairs, 4, 12, draw), *texts(pairs, 20, 200, draw)]}
    table = Table(
        COLUMNS, machine(options.quick), options.json, f"{precision}, {pairs} pairs, medians of {rounds} steps"
    )
    for task, given in items.items():
        embedder = compact_model(options.weights, ("image",) if task == "image_caption" else ())
        stage = plain_stage(embedder, task, steps=rounds + 1, bf16=precision == "bf16-mixed").train()
        profile(stage, task, given, rounds, table)


def profile(stage: FinetuneStage, task: str, items: Sequence[Item], rounds: int, table: Table) -> None:
    """Add the rows of one kind of pairs."""
    batch, decoding = batch_of(stage, items, task)
    optimiser = stage.configure_optimizers()["optimizer"]
    step = GradientStep(optimiser, stage.parameters(), clip_norm=stage.settings.clip_norm)
    watch = watched(stage)
    steps = [one_step(stage, watch, batch, step) for _ in range(rounds + 1)][1:]
    whole = Spread.of(sum(parts.values()) for parts in steps)
    for part in steps[0]:
        spent = Spread.of(parts[part] for parts in steps)
        table.add(pairs=task, part=part, spent=spent, share=spent.middle / whole.middle)
    table.add(pairs=task, part="the step", spent=whole, share=1.0)
    table.add(pairs=task, part="decoding, beside it", spent=Spread.of([decoding]), share=None)


if __name__ == "__main__":
    run(__doc__, main, weights="cache/weights")
