"""Sliding windows: the plain masked formula, all of a content where the window is as wide, and what stays the same."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from commonspace import Content, Document, Embedder
from commonspace.errors import ConfigError
from commonspace.models.adapters import Lora, attach
from commonspace.models.backbones.windows import windowed_attention
from commonspace.models.folder import read_json
from tests.models.pretrained import built
from tests.models.tiny import contents, picture, sound, tiny_embedder

LONG = Content("red fox " * 70, picture(1), sound(), Document("snow " * 30, picture(2), "blue bird " * 30))


def windowed(window: int | None = 16, global_every: int | None = 2) -> Embedder:
    """The tiny model of two layers; the first sees a window."""
    embedder = tiny_embedder()
    embedder.set_lengths("restart", 600, window=window, global_every=global_every, max_tokens=600, max_text_tokens=600)
    return embedder


def plainly(query_BHLD, key_BHLD, value_BHLD, real_BL: torch.Tensor, window: int) -> torch.Tensor:
    """Softmax over the scores of the tokens within the window that are no padding, query by query."""
    made = torch.empty_like(query_BHLD.transpose(1, 2))
    for row, real_L in enumerate(real_BL):
        for place in range(len(real_L)):
            seen = [n for n in range(len(real_L)) if abs(n - place) <= window and (real_L[n] or n == place)]
            score_HS = (query_BHLD[row, :, place, None] * key_BHLD[row][:, seen]).sum(-1) / 2
            made[row, place] = (score_HS.softmax(-1)[..., None] * value_BHLD[row][:, seen]).sum(1)
    return made


@pytest.mark.parametrize("length", [7, 8, 15, 21, 22])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_is_the_plain_masked_formula(length: int, padded: bool) -> None:
    torch.manual_seed(length)
    query, key, value = (torch.randn(3, 2, length, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    real_BL = torch.ones(3, length, dtype=torch.bool)
    if padded:
        real_BL[0, -2:] = real_BL[1, 1:] = False  # far behind the one token of the second all of a window is padding
    mask = real_BL[:, None, None].expand(3, 1, length, length) if padded else None
    module = SimpleNamespace(window=5, training=False, is_causal=False)
    found, _ = windowed_attention(module, query, key, value, mask, scaling=0.5)
    expected = plainly(query, key, value, real_BL, 5)
    torch.testing.assert_close(found[real_BL], expected[real_BL])
    for one, other in zip(
        *(torch.autograd.grad(x[real_BL].square().sum(), (query, key, value)) for x in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_window_as_wide_as_the_content_is_full_attention_bit_for_bit() -> None:
    tokens = windowed().processor(LONG).tokens
    wide, full = windowed(tokens - 1), windowed(None, None)
    np.testing.assert_array_equal(wide.embed([LONG]), full.embed([LONG]))
    assert np.abs(windowed(tokens - 2).embed([LONG]) - full.embed([LONG])).max() > 0
    assert np.abs(windowed().embed([LONG]) - full.embed([LONG])).max() > 1e-3


def test_contents_of_a_window_keep_their_vectors() -> None:
    plain, narrow = tiny_embedder(), windowed(40)
    short = [content for content in contents() if plain.processor(content).tokens <= 41]
    assert len(short) > 5
    np.testing.assert_array_equal(narrow.embed(short), plain.embed(short))
    np.testing.assert_allclose(narrow.embed([*short, LONG])[:-1], plain.embed(short), atol=1e-5)


def test_states_are_those_of_the_transformer_under_such_masks() -> None:
    """BERT's own layers with eager scores, the first under a mask made here, the second under none."""
    embedder = windowed()
    pieces, bert = embedder.processor(LONG), embedder.backbone.text
    seen: list[torch.Tensor] = []
    hook = bert.embeddings.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        states = embedder.backbone([pieces]).last_BLD
        hook.remove()
        bert.config._attn_implementation = "eager"
        places = torch.arange(pieces.tokens)
        far = (places[:, None] - places).abs() > 16
        near_11LL = torch.zeros(1, 1, *far.shape).masked_fill(far, -torch.inf)
        hidden = seen[0]
        for layer, mask in zip(bert.encoder.layer, (near_11LL, None), strict=True):
            hidden = layer(hidden, attention_mask=mask)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    torch.testing.assert_close(states, hidden, atol=1e-5, rtol=1e-4)


def test_a_long_content_keeps_the_invariants() -> None:
    embedder = windowed()
    together = embedder.embed([LONG, Content("a red fox"), Content("snow " * 200)], batch_tokens=4096)
    for row, content in enumerate([LONG, Content("a red fox"), Content("snow " * 200)]):
        np.testing.assert_allclose(embedder.embed([content])[0], together[row], atol=1e-5)
    turned = Content(*LONG.parts[::-1])
    assert np.abs(embedder.embed([turned])[0] - together[0]).max() > 1e-3
    pieces = [embedder.processor(content) for content in (Content("a"), LONG)]
    embedder._vectors(pieces)[0].square().sum().backward()
    grads = [p.grad for p in embedder.backbone.text.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)


def test_only_global_layers_see_far() -> None:
    embedder = windowed()
    for layer, sees_all in zip(embedder.backbone.layers(), (False, True), strict=True):
        input_1LD = torch.randn(1, 100, 32, requires_grad=True)
        output = layer(input_1LD)
        output_1LD = output[0] if isinstance(output, tuple) else output
        (moved_1LD,) = torch.autograd.grad(output_1LD[0, 40].sum() + output_1LD[0, 40, 0] * 3, input_1LD)
        places = moved_1LD[0].abs().sum(-1).nonzero()[:, 0].tolist()
        assert places == list(range(100) if sees_all else range(24, 57))


def test_windows_of_twelve_layers_stand_as_asked() -> None:
    from commonspace.models.backbones.windows import set_windows

    layers = [nn.Identity() for _ in range(12)]
    set_windows(layers, 256, 4)
    assert [layer.window for layer in layers] == [256, 256, 256, None] * 3
    set_windows(layers, None, None)
    assert {layer.window for layer in layers} == {None}


def test_a_folder_a_copy_and_adapters_keep_it(tmp_path) -> None:
    import json

    embedder = windowed()
    embedder.save(tmp_path / "model")
    config = read_json(tmp_path / "model/config.json")
    assert (config["window"], config["global_every"]) == (16, 2) and "windowed" not in json.dumps(config)
    expected = embedder.embed([LONG])
    for same in (Embedder.load(tmp_path / "model"), copy.deepcopy(embedder)):
        np.testing.assert_array_equal(same.embed([LONG]), expected)
    attach(embedder, Lora(rf"backbone\.text\.{embedder.backbone.linear_maps}", 2))
    np.testing.assert_allclose(embedder.embed([LONG]), expected, atol=1e-6)
    embedder.set_lengths("restart", 600, max_tokens=600)
    np.testing.assert_allclose(embedder.embed([LONG]), windowed(None, None).embed([LONG]), atol=1e-6)
    del config["window"], config["global_every"]
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    assert Embedder.load(tmp_path / "model").backbone.window is None


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"window": 32}, "window=32, global_every=None: give both"),
        ({"global_every": 2}, "window=None, global_every=2: give both"),
        ({"window": 8, "global_every": 2}, "window=8: use 16 tokens on either side, or more"),
        ({"window": 32, "global_every": 3}, "global_every=3: one layer in 2 to 2 sees all"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_embedder().set_lengths(**wrong)


def test_kinds_with_windows_of_their_own_take_none(tmp_path) -> None:
    with pytest.raises(ConfigError, match="window=64, global_every=2: causal_lm takes none"):
        built(tmp_path, "gemma3", window=64, global_every=2)
