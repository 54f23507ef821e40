"""An adapter read on its base is the merged model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commonspace.errors import WeightsError
from commonspace.models.adapter_folder import merge_folder, save_adapter_folder
from commonspace.models.adapters import Lora, attach
from commonspace.models.embedder import Embedder
from commonspace.models.merged import MergedTensors
from commonspace.models.stored import SomeTensors, StoredTensors
from tests.models.tiny import tiny_embedder

BESIDE = r"head\..*|backbone\.marks\..*"


def adapter(base: Path, folder: Path, *, seed: int = 3, rank: int = 2) -> Path:
    """An adapter's folder, all that trains moved as training would move it."""
    embedder = Embedder.load(base)
    attach(embedder, Lora(rf"backbone\.text\.{embedder.backbone.linear_maps}", rank, 4.0, train=BESIDE))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in embedder.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    save_adapter_folder(embedder.eval(), folder, base)
    return folder


def test_an_adapter_on_its_base_is_the_merged_model(tmp_path: Path) -> None:
    tiny_embedder().save(tmp_path / "base")
    folder = adapter(tmp_path / "base", tmp_path / "adapter")
    merge_folder(folder, tmp_path / "whole")
    expected = load_file(tmp_path / "whole/model.safetensors")
    base = StoredTensors(tmp_path / "base/model.safetensors")
    merged = MergedTensors(base, folder / "adapter.safetensors")
    assert list(merged) == list(base) and set(merged) == set(expected) and len(merged) == len(expected)
    for name in expected:
        torch.testing.assert_close(merged[name], expected[name], msg=name)
    moved = [name for name in expected if not torch.equal(merged[name], base[name])]
    assert any("query" in name for name in moved) and "head.weight" in moved, "factors and what trained beside them"


def test_an_adapter_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    tiny_embedder().save(tmp_path / "base")
    folder = adapter(tmp_path / "base", tmp_path / "adapter")
    base = SomeTensors(StoredTensors(tmp_path / "base/model.safetensors"), ["head.weight", "head.bias"])
    with pytest.raises(WeightsError, match=r"adapts .*query\.weight"):
        MergedTensors(base, folder / "adapter.safetensors")
