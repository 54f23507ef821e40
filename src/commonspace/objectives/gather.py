"""Rows of every process in one matrix, with gradient: the one convention of this project.

Each process takes the loss of its own rows against the rows of all (a *local* loss), the gather passes gradients back
to the process they belong to, and nothing is multiplied by the world size. Data-parallel training averages gradients
over processes, so the result is the gradient of the mean over the global batch:

    1/W sum_r d(sum_r' L_r')/d(rows of r)  =  d(1/W sum_r' L_r')  =  d(global mean)

A detached gather loses the gradient that other processes' rows send back, and a factor W counts it W times; Adam hides
either until a clipped gradient or another optimiser shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import compress

import torch
import torch.distributed as dist
from torch import Tensor, nn

from commonspace.errors import ConfigError

Group = dist.ProcessGroup
_BUCKET_ELEMENTS = 16 * 1024 * 1024  # gradients travel in buffers of at most this many numbers


def rank_and_size(group: Group | None) -> tuple[int, int]:
    """This process's rank in `group` and the number of processes; (0, 1) without a group."""
    if group is None:
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def gather_rows(rows_B: Tensor, group: Group | None) -> Tensor:
    """`rows_B` [B, ...] of every process, in order of rank: [W*B, ...]; gradients flow back to their process.

    All processes must hold the same B and call this equally often (see `gather_counts`), or the collective hangs.
    Integer tensors are gathered without gradient.
    """
    if rank_and_size(group)[1] == 1:
        return rows_B
    if rows_B.is_floating_point():
        return _GatherRows.apply(rows_B, group)
    return _all_gather(rows_B, group)


def gather_counts(count: int, group: Group | None, device: torch.device | None = None) -> list[int]:
    """`count` of every process, in order of rank."""
    if rank_and_size(group)[1] == 1:
        return [count]
    return _all_gather(torch.tensor([count], device=device), group).tolist()


def require_equal_rows(count: int, group: Group | None, device: torch.device | None = None) -> None:
    """Raise ConfigError, on every process alike, unless all hold `count` rows.

    A mean of means is the global mean only for equal shares, and a gather of unequal shapes hangs.
    """
    counts = gather_counts(count, group, device)
    if len(set(counts)) > 1:
        raise ConfigError(
            f"processes hold batches of {counts} rows; a batch over several processes needs the same number on each: "
            "drop the last incomplete batch or choose a global batch size that the number of processes divides"
        )


def any_process(flags_N: Tensor, group: Group | None) -> Tensor:
    """`flags_N` bool [N], True where it is True on any process."""
    if rank_and_size(group)[1] == 1:
        return flags_N
    counts_N = flags_N.to(torch.int32)
    dist.all_reduce(counts_N, group=group)
    return counts_N > 0


def gather_shares(rows_BE: Tensor, counts: Sequence[int], group: Group | None) -> list[Tensor]:
    """Rows of every process, in order of rank, where each holds a number of its own: `counts`, which all know.

    Shares travel in one fixed shape, that of the largest, so no process has to ask another for its size. No gradient.
    Raises ConfigError where this process's rows are not as many as `counts` says.
    """
    rank, size = rank_and_size(group)
    if len(counts) != size or counts[rank] != len(rows_BE):
        raise ConfigError(f"process {rank} of {size} holds {len(rows_BE)} rows, where all count on {list(counts)}")
    if size == 1:
        return [rows_BE]
    padded = rows_BE.new_zeros(max(counts), *rows_BE.shape[1:])
    padded[: len(rows_BE)] = rows_BE
    parts = _all_gather(padded, group).unflatten(0, (size, max(counts)))
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


def average_gradients(parameters: Iterable[nn.Parameter], group: Group | None) -> None:
    """Average `.grad` over processes, in place: the one reduction of a step whose backward passes ran unsynchronised.

    A parameter without gradient here counts as zero, so processes whose batches used different towers agree. One that
    has none on any process keeps none, as in one process: a zero instead would let AdamW's momentum and decay move it.
    Every process must pass the same parameters in the same order.

    Relations: equals what DistributedDataParallel leaves behind where each parameter is used somewhere, but does not
    depend on which parameters the last backward pass touched; it cannot overlap with the backward pass.
    """
    size = rank_and_size(group)[1]
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if size == 1 or not trainable:
        return
    has_N = torch.tensor([parameter.grad is not None for parameter in trainable], device=trainable[0].device)
    trainable = list(compress(trainable, any_process(has_N, group).tolist()))
    for parameter in trainable:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([parameter.grad for parameter in trainable]):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        dist.all_reduce(flat, group=group)
        flat /= size
        for gradient, values in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(values.view_as(gradient))


def _buckets(gradients: list[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    for gradient in gradients:
        alike = not bucket or (bucket[0].dtype, bucket[0].device) == (gradient.dtype, gradient.device)
        if bucket and not (alike and sum(g.numel() for g in bucket) + gradient.numel() <= _BUCKET_ELEMENTS):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def _all_gather(rows_B: Tensor, group: Group) -> Tensor:
    parts = [torch.empty_like(rows_B, memory_format=torch.contiguous_format) for _ in range(rank_and_size(group)[1])]
    dist.all_gather(parts, rows_B.contiguous(), group=group)
    return torch.cat(parts)


class _GatherRows(torch.autograd.Function):
    """Forward: all-gather. Backward: the sum over processes of the gradient for this process's rows."""

    @staticmethod
    def forward(context, rows_B: Tensor, group: Group) -> Tensor:
        context.group, context.count = group, rows_B.shape[0]
        return _all_gather(rows_B, group)

    @staticmethod
    def backward(context, gradient_N: Tensor) -> tuple[Tensor, None]:
        # All-reduce and slice rather than reduce-scatter: every backend has it, and vectors are small beside weights.
        gradient_N = gradient_N.contiguous().clone()
        dist.all_reduce(gradient_N, group=context.group)
        begin = dist.get_rank(context.group) * context.count
        return gradient_N[begin : begin + context.count], None
