"""Lightning's strategy for sharded training, and its checkpoints in both forms: one whole file, or a folder of shares.

A whole file is what a single process writes, name for name: a run may go on from it with any strategy and any number of
processes. Shares are written by all processes at once, in the format of `torch.distributed.checkpoint`; `to_whole` and
`to_shares` make one form of the other, without processes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as shares
from pytorch_lightning.strategies import ModelParallelStrategy
from rich.console import Console
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer

from commonspace.errors import DataError
from commonspace.files import replaced
from commonspace.stages.sharding import like, whole


class ShardedStrategy(ModelParallelStrategy):
    """Shards over all processes of the run, see `stages.sharding`; a stage does so in `configure_model`.

    save_shares  checkpoints are folders of shares instead of whole files
    """

    def __init__(self, *, save_shares: bool = False) -> None:
        super().__init__()
        self.save_shares = save_shares

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Optimisers come back by `load_optimizer_state_dict`, as in strategies that do not shard."""
        return True

    def setup_environment(self) -> None:
        """Meet the other processes, in one group for everything: collectives of two could cross, and wait for ever."""
        self._setup_distributed()
        size = self.num_nodes * self.num_processes
        self._device_mesh = init_device_mesh(self.root_device.type, (size,), mesh_dim_names=("data_parallel",))
        self.lightning_module._device_mesh = self._device_mesh

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Names and shares of the stage's tensors."""
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimiser's own state, in shares, its parameters numbered as its groups have them."""
        return optimizer.state_dict()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint, whole or not at all; every process calls this."""
        path = Path(self.broadcast(filepath))
        if not self.save_shares:
            checkpoint = whole(checkpoint, keep=self.is_global_zero)
            if self.is_global_zero:
                if path.is_dir():
                    shutil.rmtree(path)
                self.checkpoint_io.save_checkpoint(checkpoint, path)
            return
        partial = _partial(path)
        if self.is_global_zero:
            _clear(partial)
        self.barrier()
        shares.save(_named(checkpoint), checkpoint_id=partial)
        self.barrier()
        if self.is_global_zero:
            _replace(partial, path)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """A checkpoint of either form, whole, in every process."""
        path = Path(self.broadcast(checkpoint_path))
        if not path.is_dir():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        with tempfile.TemporaryDirectory() as folder:
            return _read(to_whole(path, Path(folder) / "whole.ckpt"))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Share out a whole checkpoint's tensors over the stage's."""
        stage = self.lightning_module
        own = stage.state_dict()
        stage.load_state_dict({name: like(v, own.get(name)) for name, v in checkpoint["state_dict"].items()}, strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Share out the optimisers' states as the parameters they belong to."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            own = {
                number: {key: _as_parameter(value, parameters[number]) for key, value in values.items()}
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": own})


def convert(checkpoint: Path, output: Path) -> None:
    """`commonspace checkpoint`: a folder of shares to a whole file, or a file to a folder."""
    written = (to_whole if checkpoint.is_dir() else to_shares)(checkpoint, output)
    Console().print(f"{written}: written", soft_wrap=True)


def to_whole(folder: str | Path, file: str | Path) -> Path:
    """A checkpoint of shares as the whole file that a single process would have written. Returns `file`.

    Runs alone, without processes. Raises DataError where `folder` holds no checkpoint.
    """
    folder, file = Path(folder), Path(file)
    if not (folder / ".metadata").is_file():
        raise DataError(f"{folder}: no checkpoint of shares; name the folder that a sharded run wrote")
    with replaced(file) as partial:
        dcp_to_torch_save(folder, partial)
        torch.save(_numbered(_read(partial)), partial)
    return file


def to_shares(file: str | Path, folder: str | Path) -> Path:
    """A whole checkpoint as a folder in the form of shares, which any number of processes may read. Returns `folder`.

    Runs alone, without processes. Raises DataError where `file` is none; a folder that is there is replaced.
    """
    folder = Path(folder)
    if not Path(file).is_file():
        raise DataError(f"{file}: no such checkpoint; name a .ckpt file")
    partial = _partial(folder)
    _clear(partial)
    shares.save(_named(_read(Path(file))), checkpoint_id=partial, no_dist=True)
    _replace(partial, folder)
    return folder


def _read(file: Path) -> dict[str, Any]:
    return torch.load(file, map_location="cpu", weights_only=True)


def _named(tree: Any) -> Any:
    """Numbers for keys (an optimiser's parameters) as "#3": the format of shares knows names alone."""
    if isinstance(tree, dict):
        return {f"#{key}" if isinstance(key, int) else key: _named(value) for key, value in tree.items()}
    return [_named(value) for value in tree] if isinstance(tree, list) else tree


def _numbered(tree: Any) -> Any:
    """Inverse of `_named`."""
    if isinstance(tree, dict):
        names = {key: key[1:] if isinstance(key, str) and key.startswith("#") else "" for key in tree}
        return {int(names[k]) if names[k].isdigit() else k: _numbered(value) for k, value in tree.items()}
    return [_numbered(value) for value in tree] if isinstance(tree, list) else tree


def _as_parameter(value: Any, parameter: torch.Tensor) -> Any:
    """Moments have their parameter's shape and lie as it does; counters are whole everywhere."""
    is_moment = isinstance(value, torch.Tensor) and value.shape == parameter.shape
    return like(value, parameter) if is_moment else value


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _replace(partial: Path, path: Path) -> None:
    """Put a finished folder in its place; the one that was there is gone only when its successor is whole."""
    old = path.with_name(path.name + ".old")
    _clear(old)
    if path.exists():
        path.rename(old)
    partial.rename(path)
    _clear(old)


def _clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
