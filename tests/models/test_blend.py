"""Blends: shares by layer, and the sphere against Shoemake's formula in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.blend import Blend, layer_of, slerp_tensors


def model(seed: int, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        "text.layer.0.weight": torch.randn(6, 5, generator=draw),
        "text.layer.11.weight": torch.randn(4, generator=draw).bfloat16(),
        "head.weight": torch.randn(3, 3, generator=draw, dtype=torch.float64),
        "same": torch.tensor([-0.0, 2.0]),
        "steps": torch.tensor(seed),
    }
    return tensors | changes


def by_scipy(first: torch.Tensor, second: torch.Tensor, share: float, base: torch.Tensor | float) -> np.ndarray:
    """Along the great circle through two unit vectors, lengths blended as the formula does."""
    from scipy.spatial import geometric_slerp

    one, other = ((t.double() - base).numpy().ravel() for t in (first, second))
    units = [vector / np.linalg.norm(vector) for vector in (one, other)]
    angle = np.arccos(units[0] @ units[1])
    on_circle = geometric_slerp(units[0], units[1], share)
    if np.isclose(np.linalg.norm(one), np.linalg.norm(other)):
        mixed = on_circle * np.linalg.norm(one)
    else:
        mixed = (np.sin((1 - share) * angle) * one + np.sin(share * angle) * other) / np.sin(angle)
    return mixed.reshape(first.shape) + (base if isinstance(base, float) else base.double().numpy())


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("around", [False, True])
def test_the_sphere_is_shoemakes(share: float, around: bool) -> None:
    first, second = model(0), model(1)
    base = model(2) if around else None
    for name in ("text.layer.0.weight", "head.weight"):  # equal lengths: then scipy's own slerp is the reference
        origin = base[name] if base else torch.zeros(())
        second[name] = origin + (second[name] - origin) * (
            (first[name] - origin).norm() / (second[name] - origin).norm()
        )
    mixed = dict(slerp_tensors([first, second], [1 - share, share], ["a", "b"], base))
    for name in ("text.layer.0.weight", "head.weight"):
        expected = by_scipy(first[name], second[name], share, base[name] if base else 0.0)
        np.testing.assert_allclose(mixed[name].double().numpy(), expected, atol=2e-6)
        origin = base[name] if base else 0.0
        torch.testing.assert_close((mixed[name] - origin).norm(), (first[name] - origin).norm(), atol=1e-5, rtol=1e-5)
    assert mixed["text.layer.11.weight"].dtype == torch.bfloat16 and mixed["steps"] == 0
    assert torch.equal(mixed["same"], first["same"])


def test_the_ends_of_the_sphere_are_its_ingredients_and_a_line_is_taken_where_there_is_no_angle() -> None:
    first, second = model(0), model(1)
    ends = [dict(slerp_tensors([first, second], [1 - t, t], ["a", "b"])) for t in (1e-9, 1 - 1e-9)]
    for name in ("text.layer.0.weight", "head.weight"):
        torch.testing.assert_close(ends[0][name], first[name], atol=1e-6, rtol=0)
        torch.testing.assert_close(ends[1][name], second[name], atol=1e-6, rtol=0)
    doubled = {name: 2 * tensor for name, tensor in first.items()} | {"steps": first["steps"]}
    mixed = dict(slerp_tensors([first, doubled], None, ["a", "b"]))
    torch.testing.assert_close(mixed["head.weight"], 1.5 * first["head.weight"])
    unmoved = dict(slerp_tensors([first, second], None, ["a", "b"], first))  # the base is an ingredient
    torch.testing.assert_close(unmoved["head.weight"], (first["head.weight"] + second["head.weight"]) / 2)


def test_what_no_sphere_joins_is_refused_by_name() -> None:
    first, second = model(0), model(1)
    with pytest.raises(ConfigError, match="two ingredients, 3"):
        list(slerp_tensors([first, second, first], None, ["a", "b", "c"]))
    with pytest.raises(ConfigError, match=r"head\.weight of the two lies in opposite directions"):
        list(slerp_tensors([first, second | {"head.weight": -first["head.weight"]}], None, ["a", "b"]))
    with pytest.raises(WeightsError, match="extra"):
        list(slerp_tensors([first, second | {"extra": torch.ones(1)}], None, ["a", "b"]))
    with pytest.raises(WeightsError, match=r"head\.weight in b holds values that are not finite"):
        list(
            slerp_tensors(
                [first, second | {"head.weight": torch.full((3, 3), float("nan")).double()}], None, ["a", "b"]
            )
        )
    with pytest.raises(WeightsError, match=r"head\.weight is torch.float32 \(3,\) in base"):
        list(slerp_tensors([first, second], None, ["a", "b"], first | {"head.weight": torch.ones(3)}))


def test_layers_take_their_own_shares_and_the_rest_the_blends() -> None:
    first, second = model(0), model(1)
    blend = Blend((0, 1), (1.0, 1.0), {"text.layer.0": (3.0, 1.0), "head.weight": (1.0, 9.0)})
    mixed = dict(blend.tensors([first, second], ["a", "b"]))
    for name, share in (("text.layer.0.weight", 0.25), ("head.weight", 0.9), ("text.layer.11.weight", 0.5)):
        expected = (1 - share) * first[name].double() + share * second[name].double()
        torch.testing.assert_close(mixed[name].double(), expected, atol=2e-2 if "11" in name else 1e-6, rtol=0)
    assert blend.to_json() == {
        "shares": [0.5, 0.5], "path": "straight",
        "by_layer": {"text.layer.0": [0.75, 0.25], "head.weight": [0.1, 0.9]},
    }  # fmt: skip


@pytest.mark.parametrize(
    "name, layer",
    [
        ("backbone.text.encoder.layer.3.output.dense.weight", "backbone.text.encoder.layer.3"),
        ("backbone.text.layers.10.mlp.weight", "backbone.text.layers.10"),
        ("backbone.vision.trunk.blocks.2.0.conv.weight", "backbone.vision.trunk.blocks.2"),
        ("backbone.image_connector.expand.weight", "backbone.image_connector"),
        ("head.bias", "head.bias"),
        ("media_gate", "media_gate"),
    ],
)
def test_layers_of_names(name: str, layer: str) -> None:
    assert layer_of(name) == layer
