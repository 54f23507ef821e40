"""What a trainer has to say of itself to be checked."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

Gradients = dict[str, Tensor]


class NotOffered(Exception):
    """Raised by a subject for what its trainer does not do; the message says what stands in its place."""


@dataclass(frozen=True)
class Gathering:
    """A loss over several processes, and what it should be.

    loss       (encoder, query_BF, positive_BF, negative_BKF, rank, world) -> the scalar that this process's backward
               pass starts from. `torch.distributed` is initialised, rows are this process's, and the check averages
               gradients over processes afterwards, as data-parallel training does.
    reference  (query_NE, positive_NE, negative_NKE) -> the mean loss of the whole batch, written out plainly.
    """

    loss: Callable[[nn.Module, Tensor, Tensor, Tensor, int, int], Tensor]
    reference: Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Trace:
    """What a run did: keys of the samples of each step, in order, and the weights it ended with."""

    batches: list[list[str]]
    weights: Gradients


@dataclass(frozen=True)
class Subject:
    """A trainer under the checks; what it leaves out is reported as not offered.

    gathers  by name, each one way of its to share a batch over processes
    caching  flags of `caching.FLAGS` -> (gradients of a plain pass over the same chunks, cached gradients), each by
             parameter, in float64, from one random state; raises NotOffered
    resume   (empty folder, stop) -> the trace of `resume.STEPS` steps with dropout. `stop` None: uninterrupted; else
             everything in memory is dropped after so many steps and the rest goes on from the checkpoint; NotOffered
    """

    name: str
    gathers: Mapping[str, Gathering] = field(default_factory=dict)
    caching: Callable[[frozenset[str]], tuple[Gradients, Gradients]] | None = None
    resume: Callable[[Path, int | None], Trace] | None = None


def find(path: str) -> Subject:
    """The subject at "module:NAME"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


OURS = "benchmarks.exactness.subjects.own:SUBJECT"
PEERS = (
    "benchmarks.exactness.subjects.peer_sentence_transformers:SUBJECT",
    "benchmarks.exactness.subjects.peer_open_clip:SUBJECT",
)
