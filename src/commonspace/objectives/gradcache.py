"""Large contrastive batches in the memory of small ones: gradient caching (GradCache, 2101.06983).

Accumulating gradients over small batches adds no negatives. Caching does: encode all contents without a graph, take the
loss of the whole batch on the vectors, keep its gradient with respect to each vector, then encode again chunk by chunk
with a graph and send that gradient through. Costs one forward pass more; activations live for one chunk only.

    for batch in batches:                                     # plain PyTorch, no trainer
        contents = batch.queries + batch.positives
        chunks = token_chunks([tokens(c) for c in contents], budget=16384)
        loss, report = cached_backward(encode, contents, chunks, lambda v: nce_loss(*v.chunk(2), temperature=0.02))
        optimizer.step(); optimizer.zero_grad()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn

from commonspace.errors import ConfigError

Item = TypeVar("Item")
_REPLAY_TOLERANCE = 0.05  # relative; bfloat16 kernels with and without a graph differ by far less


def token_chunks(tokens: Sequence[int], budget: int, padded: bool = True) -> list[list[int]]:
    """Split a batch into chunks of items by a budget of tokens: a partition of range(len(tokens)).

    Items are taken from the longest to the shortest, so chunks hold like lengths and the largest comes first (if memory
    does not suffice, the first chunk tells). A chunk costs items x its longest item with `padded`, else the sum of its
    tokens. An item longer than the budget is a chunk of its own.
    """
    if budget < 1:
        raise ConfigError(f"a budget of {budget} tokens a chunk must be at least 1")
    chunks: list[list[int]] = []
    cost = budget + 1
    for item in sorted(range(len(tokens)), key=lambda i: (-tokens[i], i)):
        longest = tokens[chunks[-1][0]] if chunks else 0
        cost += longest if padded else tokens[item]
        if cost > budget:
            chunks.append([])
            cost = tokens[item]
        chunks[-1].append(item)
    return chunks


def cached_backward(
    encode: Callable[[list[Item]], Tensor],
    items: Sequence[Item],
    chunks: Sequence[Sequence[int]],
    loss_fn: Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]],
    *,
    backward: Callable[[Tensor], None] = Tensor.backward,
    replay: Callable[[Tensor], None] = Tensor.backward,
    no_sync: Callable[[], AbstractContextManager] = nullcontext,
    parameters: Iterable[nn.Parameter] = (),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add to `.grad` what `loss_fn(encode(items))` and a plain backward would add, holding one chunk's graph at a time.

    Args:
        encode: items -> vectors [n, E]; must depend on nothing but its items, the weights and torch's random state,
            which is replayed (dropout draws the same masks).
        items: contents of any kind, split before they become tensors, so ragged media need no slicing.
        chunks: a partition of range(len(items)), as `token_chunks` makes it.
        loss_fn: vectors [N, E] in the order of `items` -> (loss, report). May gather over processes and may hold
            parameters (a temperature); runs once.
        backward: how the loss goes backward; scale here, once (accumulation, a gradient scaler).
        replay: how a chunk's surrogate goes backward; it carries the scale already. A trainer whose backward also
            prepares DistributedDataParallel's reduction is named here too.
        no_sync: entered around every backward pass but the last, as in DistributedDataParallel.no_sync: one gradient
            reduction a step, however many chunks each process has.
        parameters: those the last pass must touch with a zero gradient. DistributedDataParallel reduces what its last
            pass touches, which would miss a temperature, or a tower whose items lay in an earlier chunk. Without
            find_unused_parameters, which finds them by itself and then sees them twice.
            (Or wrap the call in no_sync and reduce with `gather.average_gradients`: no need for this then.)

    Returns:
        the detached loss, and the report with `chunks` and `replay_error`: the largest relative difference between
        the vectors of the two passes. Beyond 5% the gradient belongs to other vectors: ConfigError.

    Relations: equal to the plain backward over the same chunks for every parameter; with one chunk, to the plain
    backward. Non-reentrant activation checkpointing composes; so do LoRA and frozen towers.
    """
    order = _check_partition(chunks, len(items))
    states, cached = _encode_without_graph(encode, items, chunks)
    vectors_NE = torch.cat(cached)[order].requires_grad_()
    with no_sync():
        loss, report = loss_fn(vectors_NE)
        backward(loss)
    if vectors_NE.grad is None:
        raise ConfigError("the loss does not depend on the vectors: no gradient reached them")
    error, trained = vectors_NE.new_zeros(()), False
    for number, (chunk, state) in enumerate(zip(chunks, states, strict=True)):
        last = number == len(chunks) - 1
        with nullcontext() if last else no_sync():
            with state.replayed(), torch.enable_grad():
                again_CE = encode([items[i] for i in chunk])
            error = torch.maximum(error, _difference(again_CE.detach(), cached[number]))
            surrogate = _surrogate(again_CE, vectors_NE.grad[list(chunk)], parameters if last else ())
            if surrogate is not None:
                replay(surrogate)
                trained = True
    if not trained:
        raise ConfigError("no vector depends on a trainable parameter; unfreeze something or do not train")
    _check_replay(float(error))
    return loss.detach(), report | {"chunks": torch.tensor(float(len(chunks))), "replay_error": error}


def _encode_without_graph(encode, items, chunks) -> tuple[list[_RandomState], list[Tensor]]:
    states, cached = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_RandomState())
            cached.append(encode([items[i] for i in chunk]))
    return states, cached


def _surrogate(again_CE: Tensor, gradient_CE: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor | None:
    """A scalar whose gradient is that of the loss for this chunk; None where nothing in it is trained."""
    wide = torch.promote_types(again_CE.dtype, torch.float32)
    terms = [(again_CE.to(wide) * gradient_CE.to(wide)).sum()] if again_CE.requires_grad else []
    terms += [parameter.sum() * 0.0 for parameter in parameters if parameter.requires_grad]
    return torch.stack([term.to(wide) for term in terms]).sum() if terms else None


def _difference(again_CE: Tensor, cached_CE: Tensor) -> Tensor:
    return (again_CE - cached_CE).norm() / cached_CE.norm().clamp(min=torch.finfo(cached_CE.dtype).tiny)


def _check_replay(error: float) -> None:
    if not error <= _REPLAY_TOLERANCE:
        raise ConfigError(
            f"the second pass gave vectors {error:.0%} away from the first's, so its gradients would be wrong: encode "
            "must draw its randomness from torch alone and must not change state between calls (running statistics, "
            "augmentation from another generator); if values are NaN, the forward pass is already broken"
        )


def _check_partition(chunks: Sequence[Sequence[int]], size: int) -> Tensor:
    """Where each item's row lies in the chunks' vectors, laid end to end [N]."""
    flat = [item for chunk in chunks for item in chunk]
    if not flat or sorted(flat) != list(range(size)) or not all(len(chunk) for chunk in chunks):
        raise ConfigError(f"chunks must hold each of the {size} items exactly once, and none may be empty")
    return torch.tensor(flat).argsort()


class _RandomState:
    """torch's random state on CPU and on the current CUDA device, at the moment of its making."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        # Other devices' states are not touched: that would open a context on each of them in every process.
        self.cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() and torch.cuda.is_initialized() else None

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, random draws repeat those after the making; outside, they go on as if nothing had been drawn."""
        present = _RandomState()
        self._set()
        try:
            yield
        finally:
            present._set()

    def _set(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)
