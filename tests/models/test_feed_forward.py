"""The feed-forward layer before the head: nothing at first, then the plain formula, for what is text."""

import pytest
import torch
import torch.nn.functional as F

from commonspace import Content, Embedder
from commonspace.errors import WeightsError
from commonspace.models.feed_forward import FeedForward
from commonspace.models.folder import read_json, write_json
from tests.models.tiny import picture, tiny_embedder


def test_an_untrained_layer_changes_nothing():
    pooled_NP = torch.randn(3, 5)
    assert torch.equal(FeedForward(5, 7)(pooled_NP), pooled_NP)


def test_a_trained_layer_is_the_plain_formula():
    layer = FeedForward(5, 7).double()
    torch.nn.init.normal_(layer.contract.weight)
    x = torch.randn(3, 5, dtype=torch.float64)
    hidden = F.gelu(x @ layer.expand.weight.T + layer.expand.bias)
    torch.testing.assert_close(layer(x), x + hidden @ layer.contract.weight.T + layer.contract.bias)


def test_it_acts_by_the_share_of_text_and_lies_in_the_model_folder(tmp_path):
    embedder = tiny_embedder(pooling="input_and_last", text_hidden=8)
    contents = [Content("a red fox"), Content(picture()), Content("a", picture(1)), Content("a", "fox")]
    before = embedder.embed(contents)
    torch.nn.init.normal_(embedder.text_layer.contract.weight, std=0.5)
    after = embedder.embed(contents)
    assert ((abs(after - before).max(1) > 1e-3) == [True, False, True, True]).all()
    pieces = [embedder.processor(content) for content in contents]
    text, media = (sum(p.tokens for p in pieces[2].pieces if p.kind == kind) for kind in ("text", "image"))
    for share, each in zip([1, 0, text / (text + media), 1], pieces, strict=True):
        assert each.text_share == share
        x_1P = (embedder.pool([each]) - embedder.pooled_mean_P) * embedder.pooled_scale_P
        plain_1E = embedder.head(x_1P + share * (embedder.text_layer(x_1P) - x_1P))
        torch.testing.assert_close(embedder([each]), plain_1E)
    embedder.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model")
    assert abs(loaded.embed(contents) - after).max() < 1e-6
    embedder.text_layer = None
    assert abs(embedder.embed(contents) - before).max() < 1e-6


def test_a_folder_of_before_the_share_is_refused_with_what_to_do(tmp_path):
    tiny_embedder(pooling="input_and_last", text_hidden=8).save(tmp_path)
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**config, "format": 4})
    with pytest.raises(WeightsError, match="format 4 .* train the model again"):
        Embedder.load(tmp_path)
    write_json(tmp_path / "config.json", {**config, "format": 4, "text_hidden": 0})
    with pytest.raises(WeightsError, match="does not fit its config"):
        Embedder.load(tmp_path)


def test_a_batch_without_a_text_still_reaches_the_layer():
    embedder = tiny_embedder(pooling="input_and_last", text_hidden=8)
    embedder([embedder.processor(Content(picture()))]).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in embedder.text_layer.parameters())
