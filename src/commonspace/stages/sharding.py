"""An embedder whose weights, gradients and optimiser state lie in shares on several processes (FSDP2, `fully_shard`).

Each layer of the transformer is gathered when it runs and let go after; everything else (towers, connectors, tables,
head) is one unit, gathered once a pass. Layers are collectives, so every process must call them equally often and in
one order: a stage encodes chunk by chunk, each chunk in one call, and `stages.fillers` makes chunks alike.

Legend: a *whole* tensor is plain and complete; a sharded one is torch's DTensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from commonspace.models.embedder import Embedder
from commonspace.objectives.gather import Group


def shard(embedder: Embedder, mesh: DeviceMesh) -> None:
    """Shard a model in place over the processes of a mesh; gradients of what is sharded are averaged over them.

    Single numbers (a gate) cannot be cut and stay whole on each process.
    """
    numbers = {parameter for parameter in embedder.parameters() if not parameter.ndim}
    for layer in embedder.backbone.layers():
        fully_shard(layer, mesh=mesh, ignored_params=numbers)
        layer.set_reduce_scatter_unused_params(True)  # experts that no token of this process went to
    fully_shard(embedder, mesh=mesh, ignored_params=numbers)
    register_fsdp_forward_method(embedder, "embed_pieces")
    if dist.get_backend(mesh.get_group()) == "gloo":  # it has no average of its own
        for module in embedder.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)


@contextmanager
def unreduced(embedder: nn.Module) -> Iterator[None]:
    """Inside, backward passes of a sharded model add to gradients that stay on their process."""
    assert isinstance(embedder, FSDPModule)
    embedder.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        embedder.set_requires_gradient_sync(True)


def reshard(embedder: nn.Module) -> None:
    """Make parameters shares again where a forward pass gathered them and no backward pass followed. No collective."""
    for module in embedder.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def unsharded(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that each process holds whole, whose gradients nobody has reduced yet."""
    return [parameter for parameter in parameters if not isinstance(parameter, DTensor)]


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float, group: Group | None) -> Tensor:
    """Scale gradients so that their norm over all, shares of other processes included, is at most `largest`.

    Returns the norm before. Raises RuntimeError, on every process alike, where it is not finite.
    """
    held = [p for p in parameters if p.grad is not None]
    shares = [p.grad.to_local() for p in held if isinstance(p.grad, DTensor)]
    if not shares:
        return nn.utils.clip_grad_norm_(held, largest, error_if_nonfinite=True)
    whole = [p.grad for p in held if not isinstance(p.grad, DTensor)]
    square = torch.stack([share.square().sum() for share in shares]).sum()
    dist.all_reduce(square, group=group)
    norm = torch.stack([square, *(gradient.square().sum() for gradient in whole)]).sum().sqrt()
    if not norm.isfinite():
        raise RuntimeError(f"the norm of all gradients is {float(norm)}, so they cannot be clipped")
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    for gradient in (*shares, *whole):
        gradient.mul_(factor)
    return norm


def whole(tree: Any, keep: bool = True) -> Any:
    """A nesting of dicts, lists and tuples with its sharded tensors whole, on the CPU. A collective.

    A process that does not `keep` the result takes part and gets empty tensors in their place.
    """

    def full(leaf: Any) -> Any:
        if not isinstance(leaf, DTensor):
            return leaf
        # An average may lie in the CPU's memory, where a mesh of GPUs cannot gather.
        tensor = leaf.detach().to(leaf.device_mesh.device_type).full_tensor()
        return tensor.cpu() if keep else tensor.new_empty(0)

    return _mapped(tree, full)


def gathered(embedder: Embedder, fresh: Embedder) -> Embedder:
    """`fresh`, a model of the same making that is not sharded, with the weights of a sharded one. A collective."""
    fresh.load_state_dict(whole(embedder.state_dict()))
    return fresh


def like(whole_tensor: Tensor, other: Any) -> Tensor:
    """A whole tensor that all processes hold, shared out as `other` is; itself where that is not sharded."""
    if not isinstance(other, DTensor):
        return whole_tensor
    value = whole_tensor.to(other.device)
    # No source rank: each process cuts its own share, nothing travels.
    return distribute_tensor(value, other.device_mesh, other.placements, src_data_rank=None)


def own_share(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, as a plain one that shares its memory; all of it where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_shares(share: Tensor, other: Tensor) -> Tensor:
    """Inverse of `own_share`: each process's share of a tensor laid out as `other` is. No collective."""
    if not isinstance(other, DTensor):
        return share
    return DTensor.from_local(
        share, other.device_mesh, other.placements, run_check=False, shape=other.shape, stride=other.stride()
    )


def _mapped(tree: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _mapped(value, function) for key, value in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_mapped(value, function) for value in tree)
    return function(tree)
