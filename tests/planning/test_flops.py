"""Counted FLOPs against torch's own counter, which watches the operations of a real pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from commonspace import Content, Embedder
from commonspace.models.checkpointing import checkpoint_activations
from commonspace.planning.flops import costs, load_of
from commonspace.stages.optimiser import freeze
from tests.models.native import HEARING, NATIVE, built_native
from tests.models.pretrained import FAMILIES, built
from tests.models.tiny import clip, picture, sound

TEXT = Content(" ".join(["a red fox in the snow runs over the blue bird"] * 5))
MODELS = [*(("whole", family) for family in NATIVE), *(("joined", family) for family in FAMILIES)]


def contents_of(kind: str, family: str) -> dict[str, Content]:
    """Image towers of joined models run from the cache of features, so none is here."""
    contents = {"text": TEXT}
    if kind == "whole":
        contents |= {"image": Content(picture(1, 300)), "clip": Content(clip(2, 6))}
    if kind == "joined" or family in HEARING:
        contents["sound"] = Content(sound(4.0))
    return contents


def counted(work) -> int:
    """FLOPs of what `work` does; attention as plain products, which is what the counter knows on a CPU."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            work()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops()


@pytest.fixture(scope="module", params=MODELS, ids="-".join)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Embedder]:
    kind, family = request.param
    embedder = (built_native if kind == "whole" else built)(tmp_path_factory.mktemp(family), family)
    if family == "qwen3_omni":
        embedder.backbone.text.config._experts_implementation = "eager"  # grouped products are not known to the counter
    return kind, family, embedder


def test_forward_flops_of_every_modality(model: tuple[str, str, Embedder]) -> None:
    kind, family, embedder = model
    ratios = {}
    for name, content in contents_of(kind, family).items():
        pieces = embedder.processor(content)
        with torch.no_grad():
            measured = counted(lambda pieces=pieces: embedder([pieces]))
        ratios[name] = sum(costs(embedder, [load_of(pieces, embedder)]).forward.values()) / measured
    assert all(0.8 < ratio < 1.2 for ratio in ratios.values()), ratios


@pytest.mark.parametrize("checkpointed", [False, True])
def test_flops_of_training(model: tuple[str, str, Embedder], checkpointed: bool) -> None:
    kind, family, embedder = model
    if checkpointed and family not in ("compact", "omni"):
        pytest.skip("the two kinds of layers stand for all")
    embedder.train().requires_grad_(True)
    if kind == "joined":  # towers as in a run, frozen
        for tower in embedder.backbone.towers().values():
            tower.requires_grad_(False)
    if checkpointed:
        checkpoint_activations(embedder.backbone)
    ratios = {}
    for name, content in contents_of(kind, family).items():
        pieces = embedder.processor(content)
        measured = counted(lambda pieces=pieces: embedder([pieces]).square().sum().backward())
        cost = costs(embedder, [load_of(pieces, embedder)], checkpointed=checkpointed)
        ratios[name] = sum(cost.training.values()) / measured
    assert all(0.8 < ratio < 1.2 for ratio in ratios.values()), ratios


@pytest.mark.parametrize("family", ["compact", "qwen3"])
def test_flops_below_which_no_gradient_passes(family: str, tmp_path: Path) -> None:
    embedder = built(tmp_path, family).train().requires_grad_(True)
    pieces = embedder.processor(TEXT)
    load = [load_of(pieces, embedder)]
    whole = sum(costs(embedder, load).training.values())
    freeze(embedder, ["words", "vision", "audio"], layers=1)
    measured = counted(lambda: embedder([pieces]).square().sum().backward())
    planned = sum(costs(embedder, load).training.values())
    assert planned < whole and 0.8 < planned / measured < 1.2


def test_frozen_parts_cost_less_and_cached_ones_nothing(tmp_path: Path) -> None:
    embedder = built(tmp_path, "compact").requires_grad_(True)
    embedder.backbone.audio.requires_grad_(False)
    load = [load_of(embedder.processor(Content("a red fox", sound(4.0))), embedder)]
    whole, cached = costs(embedder, load), costs(embedder, load, cached=True)
    assert cached.forward["text"] == whole.forward["text"] and 0 < cached.forward["audio"] < whole.forward["audio"]
    embedder.backbone.text.requires_grad_(False)
    assert costs(embedder, load).training["text"] < whole.training["text"]
    assert costs(embedder, load, again=1).training["head"] == whole.training["head"] + whole.forward["head"]
