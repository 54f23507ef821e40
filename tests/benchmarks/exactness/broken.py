"""Trainers with the faults that the checks are for; each must be found."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from benchmarks.exactness.resume import STEPS
from benchmarks.exactness.subject import Gathering, Gradients, Subject, Trace
from benchmarks.exactness.subjects import own
from benchmarks.exactness.toy import make_encoder

NCE = own.GATHERS["nce, own hard negatives"]


def scaled(*given) -> Tensor:
    """Right but for a factor: each process's loss times the number of processes."""
    return NCE.loss(*given) * given[-1]


def detached(encoder, query, positive, negative, rank: int, world: int) -> Tensor:
    """Other processes' positives without their gradient."""
    vectors = encoder(positive)
    everyone = [torch.empty_like(vectors) for _ in range(world)]
    dist.all_gather(everyone, vectors.detach())
    everyone[rank] = vectors
    logits = torch.nn.functional.normalize(encoder(query), dim=-1)
    logits = logits @ torch.nn.functional.normalize(torch.cat(everyone), dim=-1).T / own.TEMPERATURE
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(query)) + rank * len(query))


def without_replay(flags: frozenset[str]) -> tuple[Gradients, Gradients]:
    """Caching whose second pass draws other dropout masks."""
    plain, cached = own.caching(flags)
    return plain, own.caching(flags)[0] if "dropout" not in flags else {n: g * 1.001 for n, g in cached.items()}


def from_the_start(folder: Path, stop: int | None) -> Trace:
    """A run that restores its weights and draws its data from the beginning."""
    order = torch.randperm(STEPS, generator=torch.Generator().manual_seed(1)).tolist()
    taken = order if stop is None else order[:stop] + order[: STEPS - stop]
    weights = {name: tensor.detach() for name, tensor in make_encoder(frozenset()).state_dict().items()}
    return Trace([[str(step)] for step in taken], weights)


SUBJECT = Subject(
    "broken",
    {
        "factor": dataclasses.replace(NCE, loss=scaled),
        "detached": Gathering(detached, partial(own.ranking, hard="none")),
    },
    without_replay,
    from_the_start,
)
