"""Layers that compute their activations again: the gradients of layers that keep them, from fewer numbers kept."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from commonspace import Content, Embedder
from commonspace.errors import ConfigError
from commonspace.models.adapters import Lora, attach
from commonspace.models.checkpointing import checkpoint_activations
from commonspace.processing.pieces import Pieces
from tests.models.pretrained import FAMILIES, built
from tests.models.tiny import contents, picture, sound, tiny_embedder


@pytest.fixture(scope="module", params=FAMILIES)
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return built(tmp_path_factory.mktemp(request.param), request.param).double()


def as_it_comes(embedder: Embedder) -> None:
    """All of the transformer trains; the towers are frozen."""


def behind_frozen_layers(embedder: Embedder) -> None:
    embedder.backbone.text.get_input_embeddings().requires_grad_(False)
    embedder.backbone.layers()[0].requires_grad_(False)


def by_adapters(embedder: Embedder) -> None:
    attach(embedder, Lora(rf"backbone\.text\.{embedder.backbone.linear_maps}", 2, dropout=0.2))
    for name, parameter in embedder.named_parameters():
        if "lora_B" in name:  # at zero it would hide the gradient of A
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))


def only_connectors(embedder: Embedder) -> None:
    embedder.backbone.text.requires_grad_(False)


def with_trained_towers(embedder: Embedder) -> None:
    backbone = embedder.backbone
    backbone.vision.train_last(len(backbone.vision.trunk.blocks))
    backbone.audio.train_whole()


def step(embedder: Embedder, batch: Sequence[Pieces], seed: int = 7) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of one backward pass by name, and the bytes its graph kept beside the weights."""
    weights = {t.untyped_storage().data_ptr() for t in (*embedder.parameters(), *embedder.buffers())}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor  # held, so that no other takes its place
        return tensor

    embedder.train()
    torch.manual_seed(seed)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        vectors_NE = embedder(batch)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    direction_NE = torch.randn(vectors_NE.shape, generator=torch.Generator().manual_seed(1), dtype=vectors_NE.dtype)
    (vectors_NE * direction_NE).sum().backward()
    return {name: p.grad for name, p in embedder.named_parameters() if p.grad is not None}, size


def both(
    embedder: Embedder, prepare: Callable[[Embedder], None], given: Sequence[Content], dropout: float = 0.0
) -> tuple[list[dict[str, torch.Tensor]], list[int], list[str]]:
    """Gradients and bytes kept without and with checkpoints, and the parts that have them."""
    plain = copy.deepcopy(embedder)
    prepare(plain)
    plain.backbone.set_dropout(dropout)
    again = copy.deepcopy(plain)
    parts = checkpoint_activations(again.backbone)
    found = [step(model, [model.processor(content) for content in given]) for model in (plain, again)]
    return [gradients for gradients, _ in found], [size for _, size in found], parts


def assert_equal(found: Sequence[dict[str, torch.Tensor]]) -> None:
    expected, given = found
    assert expected.keys() == given.keys() and expected
    for name, gradient in expected.items():
        torch.testing.assert_close(given[name], gradient, atol=1e-9, rtol=1e-6, msg=name)


@pytest.mark.parametrize(
    "prepare, dropout",
    [
        (as_it_comes, 0.0),
        (as_it_comes, 0.3),
        (behind_frozen_layers, 0.0),
        (by_adapters, 0.3),
        (only_connectors, 0.0),
        (with_trained_towers, 0.3),
    ],
)
def test_gradients_of_every_tensor_are_those_of_kept_activations(
    embedder: Embedder, prepare: Callable[[Embedder], None], dropout: float
) -> None:
    found, sizes, parts = both(embedder, prepare, contents(), dropout)
    assert_equal(found)
    assert sizes[1] < sizes[0]
    assert parts == (["text", "image", "audio"] if prepare is with_trained_towers else ["text"])
    assert prepare is by_adapters or any("connector" in name for name in found[1])


def test_dropout_is_drawn_and_drawn_again_alike(embedder: Embedder) -> None:
    """Another seed gives other gradients, so the test above compares masks, not their absence."""
    model = copy.deepcopy(embedder)
    model.backbone.set_dropout(0.3)
    batch = [model.processor(Content("a red fox in the snow"))]
    one, _ = step(model, batch, seed=1)
    one = {name: gradient.clone() for name, gradient in one.items()}
    model.zero_grad()
    other, _ = step(model, batch, seed=2)
    assert any(not torch.allclose(one[name], other[name]) for name in one if re.search("layer|resblock", name))


@pytest.mark.parametrize("prepare", [as_it_comes, by_adapters])
def test_a_long_text_keeps_a_fraction(embedder: Embedder, prepare: Callable[[Embedder], None]) -> None:
    _, (whole, part), _ = both(embedder, prepare, [Content(" ".join(["red fox"] * 25))] * 4)
    assert part < 0.5 * whole, part / whole


@pytest.mark.parametrize(("given", "share"), [(picture(1, 60), 0.7), (sound(3.0), 0.8)])
def test_towers_that_train_keep_a_fraction_too(given: object, share: float) -> None:
    def towers_alone(embedder: Embedder) -> None:
        with_trained_towers(embedder)
        nn.ModuleList([embedder.backbone.text, *embedder.backbone.connectors()]).requires_grad_(False)

    found, (whole, part), parts = both(tiny_embedder().double(), towers_alone, [Content(given)] * 4)
    assert parts == ["text", "image", "audio"], "the gradient of a tower comes through the transformer"
    assert_equal(found)
    assert part < share * whole, part / whole


def test_nothing_is_kept_for_layers_that_no_gradient_passes() -> None:
    """transformers would let word embeddings ask for gradients: the graph of frozen layers, for nothing."""
    embedder = tiny_embedder()
    embedder.backbone.text.requires_grad_(False)
    checkpoint_activations(embedder.backbone)
    embedder.train()
    states = embedder.backbone([embedder.processor(Content("a red fox"))])
    assert not states.last_BLD.requires_grad


def test_evaluation_keeps_to_one_pass() -> None:
    embedder = tiny_embedder()
    before = embedder.embed(contents())
    checkpoint_activations(embedder.backbone)
    for layer in embedder.backbone.layers():
        layer._gradient_checkpointing_func = lambda *_, **__: pytest.fail("a checkpoint outside of training")
    assert (embedder.embed(contents()) == before).all()


@pytest.mark.parametrize("towers", [(), ("image",)])
def test_it_is_refused_where_no_gradient_passes(towers: tuple[str, ...]) -> None:
    embedder = tiny_embedder(towers=towers)
    embedder.backbone.requires_grad_(False)
    with pytest.raises(ConfigError, match="stage.gradient_checkpointing: no gradient passes"):
        checkpoint_activations(embedder.backbone)


def test_a_tower_that_cannot_is_named() -> None:
    embedder = tiny_embedder()
    embedder.backbone.vision = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(ConfigError, match="layers of image cannot compute themselves again"):
        checkpoint_activations(embedder.backbone)
