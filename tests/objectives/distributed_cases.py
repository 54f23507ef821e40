"""Three SGD steps on one global batch, by any number of processes. Run as a script it is one process of several."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from commonspace.objectives.cosent import cosent_loss
from commonspace.objectives.gather import any_process, average_gradients, gather_shares
from commonspace.objectives.gradcache import cached_backward
from commonspace.objectives.matryoshka import matryoshka
from commonspace.objectives.nce import bidirectional_nce, nce_loss, pad_negative_ids, pad_negatives
from commonspace.objectives.nce_options import NCEOptions
from commonspace.objectives.sigmoid import sigmoid_loss
from commonspace.objectives.spread import spread_loss, with_spread
from commonspace.objectives.step import GradientStep
from commonspace.objectives.temperature import Temperature

BATCH, WIDTH, SIZE, STEPS = 8, 6, 5, 3
CLIP = 0.05  # of a gradient's norm: every step is clipped
# Hard negatives a row: some rows have none, and with two processes the longest list differs (3 and 1).
COUNTS = [2, 0, 3, 1, 1, 0, 0, 1]


class Model(nn.Module):
    """Two towers, a shared head, a learned temperature. With several processes each runs one tower a step, by turns."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in "ab"})
        self.head = nn.Linear(WIDTH, SIZE)
        self.temperature = Temperature(0.1, learned=True)

    def forward(self, items: list[tuple[str, Tensor]]) -> Tensor:
        return torch.stack([self.head(torch.tanh(self.towers[tower](value))) for tower, value in items])


class Batch:
    """A process's share of a global batch: items as query rows, positive rows, then ragged negatives."""

    def __init__(self, step: int, rank: int, world: int) -> None:
        generator = torch.Generator().manual_seed(step)
        values = torch.randn(3, BATCH, 3, WIDTH, generator=generator, dtype=torch.float64)
        rows = range(rank * BATCH // world, (rank + 1) * BATCH // world)
        # The first half of the global batch goes through one tower, the second through the other.
        tower = {row: "a" if (row < BATCH // 2) == (step % 2 == 0) else "b" for row in rows}
        self.counts = [COUNTS[row] for row in rows]
        self.items = [(tower[row], values[role, row, 0]) for role in (0, 1) for row in rows]
        self.items += [(tower[row], values[2, row, k]) for row in rows for k in range(COUNTS[row])]
        # Rows 1 and 6 share their target, 0 and 7 their query: duplicates across processes.
        self.query_ids = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0])[list(rows)]
        self.positive_ids = torch.tensor([10, 11, 12, 13, 14, 15, 11, 17])[list(rows)]
        # Row 3's second negative is row 6's positive (and row 1's): shared, it must be left out there.
        self.negative_ids = [[11 if (row, k) == (3, 1) else -1 for k in range(COUNTS[row])] for row in rows]
        self.scores = torch.tensor([0.1, 0.5, 0.5, 0.9, 0.0, 0.3, 0.7, 0.2])[list(rows)]
        self.chunks = [[i] for i in range(3)] + [list(range(3, len(self.items)))]

    def split(self, vectors_NE: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        size = len(self.counts)
        query_BE, positive_BE, rest_ME = vectors_NE.split([size, size, sum(self.counts)])
        return query_BE, positive_BE, *pad_negatives(rest_ME, self.counts)


Loss = Callable[[Model, Batch, Tensor, "dist.ProcessGroup | None"], tuple[Tensor, dict[str, Tensor]]]


def contrastive(loss_fn: Callable, with_negatives: bool = True, **options) -> Loss:
    def compute(model: Model, batch: Batch, vectors_NE: Tensor, group) -> tuple[Tensor, dict[str, Tensor]]:
        query_BE, positive_BE, negative_BKE, mask_BK = batch.split(vectors_NE)
        ids_BK = pad_negative_ids(batch.negative_ids)
        arguments = {"negative_mask_BK": mask_BK, "negative_ids_BK": ids_BK} if with_negatives else {}
        if options:
            arguments["options"] = NCEOptions(**options)
        return loss_fn(
            query_BE,
            positive_BE,
            negative_BKE if with_negatives else None,
            temperature=model.temperature(),
            query_ids=batch.query_ids,
            positive_ids=batch.positive_ids,
            group=group,
            **arguments,
        )

    return compute


def with_bias(*vectors: Tensor, **arguments) -> tuple[Tensor, dict[str, Tensor]]:
    return sigmoid_loss(*vectors, bias=-1.0, **arguments)


def spread(model: Model, batch: Batch, vectors_NE: Tensor, group) -> tuple[Tensor, dict[str, Tensor]]:
    return spread_loss(*batch.split(vectors_NE)[:2], group=group)


def cosent(model: Model, batch: Batch, vectors_NE: Tensor, group) -> tuple[Tensor, dict[str, Tensor]]:
    return cosent_loss(*batch.split(vectors_NE)[:2], scores=batch.scores, temperature=model.temperature(), group=group)


LOSSES: dict[str, Loss] = {
    "paper": contrastive(nce_loss),
    "no_negatives": contrastive(nce_loss, with_negatives=False),
    "share_negatives": contrastive(nce_loss, share_negatives=True),
    "share_negatives_chunked": contrastive(nce_loss, share_negatives=True, chunk_rows=3),
    "same_tower": contrastive(nce_loss, same_tower="both", mask_margin=0.3),
    "hardness": contrastive(nce_loss, hardness_alpha=9.0, hardness_on="all"),
    "classification": contrastive(nce_loss, classification=True),
    "bidirectional": contrastive(bidirectional_nce),
    "matryoshka": contrastive(matryoshka(nce_loss, (2, SIZE))),
    "sigmoid": contrastive(with_bias),
    "sigmoid_chunked": contrastive(partial(with_bias, chunk_rows=3)),
    "with_spread": contrastive(matryoshka(with_spread(nce_loss, 0.5), (2, SIZE))),
    "spread": spread,
    "cosent": cosent,
}


def train(loss: Loss, mode: str, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
    """Weights after STEPS steps of SGD, in float64.

    `mode` is how a step's gradient comes about: "reference" (one process, no machinery), "average" (plain backward,
    then `average_gradients`), "ddp" (DistributedDataParallel), and both of these with gradient caching; "step" is
    `GradientStep`, clipped, and "clipped_reference" its reference.
    """
    torch.manual_seed(0)
    model = Model().double()
    group = dist.group.WORLD if world > 1 else None
    parallel = DistributedDataParallel(model) if mode.endswith("ddp") else None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    clipped = GradientStep(optimizer, model.parameters(), clip_norm=CLIP, batches=1, group=group)
    for step in range(STEPS):
        batch = Batch(step, rank, world)
        backward_step(loss, mode, model, parallel, batch, group)
        if mode.endswith("step"):
            clipped()
            continue
        if mode.endswith("average"):
            average_gradients(model.parameters(), group)
        if mode == "clipped_reference":
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def backward_step(loss: Loss, mode: str, model: Model, parallel: nn.Module | None, batch: Batch, group) -> None:
    encode = parallel or model
    if mode.startswith("cached"):
        cached_backward(
            encode,
            batch.items,
            batch.chunks,
            lambda vectors_NE: loss(model, batch, vectors_NE, group),
            no_sync=parallel.no_sync if parallel else nullcontext,
            parameters=list(model.parameters()) if parallel else (),
        )
        return
    value, _ = loss(model, batch, encode(batch.items), group)
    if parallel:  # a process may use one tower only; DistributedDataParallel waits for both
        value = value + 0.0 * sum(parameter.sum() for parameter in model.parameters())
    value.backward()


def runs(world: int) -> list[tuple[str, str]]:
    """(loss, mode) to run with `world` processes: every loss two ways, every mode with hard negatives shared."""
    if world > 2:
        return [("share_negatives", "average"), ("share_negatives", "cached_ddp"), ("matryoshka", "average")]
    crossed = [(name, mode) for name in LOSSES for mode in ("average", "cached_ddp")]
    return crossed + [("share_negatives", mode) for mode in ("ddp", "cached_average", "step", "cached_step")]


def facts(rank: int, world: int) -> dict[str, Tensor]:
    """What a process sees of the others, where the right answer can be written down.

    Queries equal their own targets and nothing else: the axes of a space, hard negatives of both processes the others.
    """
    group, generator = dist.group.WORLD, torch.Generator().manual_seed(0)
    rows = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    axes = torch.eye(BATCH + sum(COUNTS), dtype=torch.float64)
    first = BATCH + sum(COUNTS[: rows.start])
    own = COUNTS[rows]
    negative_BKE, mask_BK = pad_negatives(axes[first : first + sum(own)], own)
    options = NCEOptions(share_negatives=True)
    loss, report = nce_loss(
        axes[rows], axes[rows], negative_BKE, temperature=0.5, negative_mask_BK=mask_BK, group=group, options=options
    )
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))  # the first process uses one, the second another
    layers[min(rank, 1)](torch.ones(1, 2)).sum().backward()
    average_gradients(layers.parameters(), group)
    counts = [3, *range(world - 1)]
    shares = gather_shares(torch.randn(counts[rank], 2, generator=generator) + rank, counts, group)
    return {
        "loss": loss,
        "accuracy": report["accuracy"],
        "negatives": report["negatives"],
        "has_gradient": torch.tensor([layer.weight.grad is not None for layer in layers]),
        "bias_gradients": torch.stack([layer.bias.grad for layer in layers[:2]]),
        "any": any_process(torch.tensor([rank == 1, False]), group),
        "shares": torch.cat(shares),
    }


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(folder / "store"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    weights = {f"{name}/{mode}": train(LOSSES[name], mode, rank, world) for name, mode in runs(world)}
    torch.save({**weights, "facts": facts(rank, world)}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # a thread of gloo that lets go of a tensor while the interpreter ends would abort the process


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
