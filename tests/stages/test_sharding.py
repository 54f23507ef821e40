"""Sharded tensors made whole and back, and one norm over both kinds; more than one process is in test_processes.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from commonspace.errors import DataError
from commonspace.stages.sharded_strategy import convert, to_shares, to_whole
from commonspace.stages.sharding import clip_gradients, like, unsharded, whole


@pytest.fixture
def mesh(tmp_path) -> Iterator[DeviceMesh]:
    """Of one process, which shards all the same."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_tree_is_made_whole_and_shared_out_again(mesh):
    value = torch.arange(6.0).view(3, 2)
    sharded = distribute_tensor(value, mesh, [Shard(0)])
    tree = whole({"a": [sharded, 1], "b": {"c": (sharded, "x")}, 3: value})
    assert type(tree["a"][0]) is torch.Tensor and torch.equal(tree["a"][0], value)
    assert torch.equal(tree["b"]["c"][0], value) and tree["b"]["c"][1] == "x" and tree[3] is value
    assert whole([sharded], keep=False)[0].numel() == 0
    again = like(value, sharded)
    assert isinstance(again, DTensor) and again.placements == sharded.placements
    assert like(value, value) is value


def test_one_norm_over_sharded_and_whole_gradients(mesh):
    torch.manual_seed(0)
    gradients = [torch.randn(4, 3), torch.randn(5), torch.randn(())]
    plain = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    mixed = [nn.Parameter(distribute_tensor(torch.zeros(4, 3), mesh, [Shard(0)])), *map(nn.Parameter, plain[1:])]
    for parameter, gradient in zip(plain, gradients, strict=True):
        parameter.grad = gradient.clone()
    mixed[0].grad = distribute_tensor(gradients[0], mesh, [Shard(0)])
    mixed[1].grad, mixed[2].grad = gradients[1].clone(), gradients[2].clone()
    expected = nn.utils.clip_grad_norm_(plain, 0.5)
    torch.testing.assert_close(clip_gradients(mixed, 0.5, None), expected)
    for found, parameter in zip(mixed, plain, strict=True):
        torch.testing.assert_close(whole(found.grad), parameter.grad)
    assert unsharded(mixed) == mixed[1:]
    mixed[1].grad.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="norm of all gradients is nan"):
        clip_gradients(mixed, 0.5, None)


def test_forms_of_a_checkpoint_convert_there_and_back(tmp_path):
    state = {
        "state_dict": {"head.weight": torch.randn(4, 3)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
        "callbacks": {"a b": {"average": None, "decay": None}}, "global_step": 2,
    }  # fmt: skip
    torch.save(state, tmp_path / "one.ckpt")
    convert(tmp_path / "one.ckpt", tmp_path / "shares")
    convert(tmp_path / "shares", tmp_path / "again.ckpt")
    again = torch.load(tmp_path / "again.ckpt", weights_only=True)
    assert torch.equal(again["state_dict"]["head.weight"], state["state_dict"]["head.weight"])
    assert again["optimizer_states"] == state["optimizer_states"]
    assert again["callbacks"] == state["callbacks"] and again["global_step"] == 2
    with pytest.raises(DataError, match="no checkpoint of shares"):
        to_whole(tmp_path, tmp_path / "x.ckpt")
    with pytest.raises(DataError, match="no such checkpoint"):
        to_shares(tmp_path / "none.ckpt", tmp_path / "x")
