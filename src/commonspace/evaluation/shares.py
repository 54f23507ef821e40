"""Evaluation on several processes: each embeds a share, all end with every vector, those of one process bit for bit.

Batches are made as one process makes them and dealt out in turn, so a content has the same neighbours everywhere. What
each process holds follows from the batches, so shares are gathered in one fixed shape and nobody asks for sizes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from commonspace.content import Content
from commonspace.errors import CommonspaceError, DataError
from commonspace.evaluation.engine import Embeds
from commonspace.models.embedder import CHUNK, Embedder
from commonspace.models.precision import resolve_precision
from commonspace.objectives.gather import Group, any_process, gather_counts, gather_shares, rank_and_size
from commonspace.processing.pieces import Pieces

_PATIENCE = timedelta(hours=12)  # one process may still look for near-duplicates


def process_group() -> Group | None:
    """The processes that a launcher (torchrun, or srun with its variables) started for this command; None for one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_PATIENCE)  # vectors travel between CPUs
    return dist.group.WORLD


def same_precision(asked: str, device: torch.device, group: Group | None) -> str:
    """`asked`, or for "auto" what the first process finds to be faster: vectors of two precisions do not mix."""
    resolved = resolve_precision(asked, device.type)
    if group is None:
        return resolved
    return "bf16-mixed" if gather_counts(int(resolved == "bf16-mixed"), group)[0] else "32-true"


def embed_in_shares(
    model: Embedder, batch: Sequence[Pieces], batch_tokens: int = 8192, group: Group | None = None
) -> torch.Tensor:
    """As `Embedder.embed_pieces`, each process of `group` taking every W-th batch: float32 [N, E] on all of them.

    All take equally many, so the model may itself be sharded over them.
    """
    rank, size = rank_and_size(group)
    if size == 1:
        return model.embed_pieces(batch, batch_tokens=batch_tokens)
    batches = list(model.batches(batch, batch_tokens))
    shares = [batches[first::size] for first in range(size)]
    own = [model.embed_pieces([batch[i] for i in rows], batch_tokens=batch_tokens) for rows in shares[rank]]
    if len(own) < len(shares[0]):  # out of batches: one that counts for nothing
        model.embed_pieces([batch[i] for i in batches[0]], batch_tokens=batch_tokens)
    vectors_BE = torch.cat([torch.empty(0, model.embedding_size), *own])
    return _gathered(vectors_BE, shares, group)


class InShares:
    """A model whose `embed` is shared out: each process decodes and embeds every W-th chunk of `models.embedder.CHUNK`
    contents, and has all vectors after.

    Every process makes the same calls. Where one cannot embed a content all raise: that one its own error, which names
    the content, the others DataError.
    """

    def __init__(self, model: Embeds, group: Group) -> None:
        self.model, self.group = model, group

    def embed(self, contents: Sequence[Content], *, progress: bool = False, **options: Any) -> np.ndarray:
        """Vectors [N, E] of the contents, in their order."""
        rank, size = rank_and_size(self.group)
        contents = list(contents)
        chunks = [range(first, min(first + CHUNK, len(contents))) for first in range(0, len(contents), CHUNK)]
        shares = [chunks[first::size] for first in range(size)]
        own, error = [], None
        try:
            rows = [contents[i] for chunk in shares[rank] for i in chunk]
            # None of a share is still a call: it gives [0, E].
            own = torch.as_tensor(self.model.embed(rows, progress=progress and rank == 0, **options))
        except CommonspaceError as failure:
            error = failure
        if bool(any_process(torch.tensor([error is not None], device=_carrier(self.group)), self.group)):
            raise error or DataError("another process could not embed its share; its own message names the content")
        return _gathered(own, shares, self.group).numpy()


def _gathered(own_BE: torch.Tensor, shares: Sequence[Sequence[Sequence[int]]], group: Group) -> torch.Tensor:
    """Rows [N, E] in their order, from each process's rows of its share, batch after batch."""
    order = [[row for rows in share for row in rows] for share in shares]
    parts = gather_shares(own_BE.to(_carrier(group)), [len(rows) for rows in order], group)
    places = torch.tensor([row for rows in order for row in rows])
    return torch.cat(parts).cpu()[places.argsort()]


def _carrier(group: Group) -> str:
    """Where tensors travel: NCCL knows GPUs alone, and a model that has trained there may be back on the CPU."""
    return "cuda" if dist.get_backend(group) == "nccl" else "cpu"
