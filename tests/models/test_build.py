"""A head that starts where text lies: identity, centred, at unit size."""

import pytest
import torch

from commonspace import Content
from commonspace.errors import ConfigError
from commonspace.models.build import initialise_head, standardise
from tests.models.tiny import WORDS, tiny_embedder

TEXTS = [f"a {one} {other}" for one, other in zip(WORDS[3:], WORDS[5:], strict=False)]


@pytest.mark.parametrize("pooling", ["mean", "input_and_last"])
def test_what_the_head_sees_of_text_is_centred_and_of_unit_deviation_a_half(pooling):
    embedder = tiny_embedder(pooling=pooling)
    initialise_head(embedder, "identity")
    standardise(embedder, TEXTS)
    pooled = embedder.pool([embedder.processor(Content(text)) for text in TEXTS])
    seen = (pooled - embedder.pooled_mean_P) * embedder.pooled_scale_P
    for half in seen.split(32, dim=1):
        torch.testing.assert_close(half.mean(0), torch.zeros(32), atol=1e-4, rtol=0)
        assert half.square().mean().sqrt().item() == pytest.approx(1, rel=1e-3)
    torch.testing.assert_close(embedder.project(pooled, [True] * len(pooled)), sum(seen.split(32, dim=1)))


def test_the_identity_keeps_the_encoders_own_centred_geometry():
    embedder = tiny_embedder()
    initialise_head(embedder, "identity")
    standardise(embedder, TEXTS)
    pieces = [embedder.processor(Content(text)) for text in TEXTS]
    own = embedder.pool(pieces)
    own = torch.nn.functional.normalize(own - own.mean(0), dim=1)
    torch.testing.assert_close(embedder.embed_pieces(pieces), own, atol=1e-5, rtol=1e-4)


def test_an_identity_wider_than_the_backbone_is_refused():
    embedder = tiny_embedder()
    embedder.head = torch.nn.Linear(32, 64)
    with pytest.raises(ConfigError, match="cannot give 64"):
        initialise_head(embedder, "identity")


def test_a_plain_head_is_the_pooled_state_itself():
    embedder = tiny_embedder()
    initialise_head(embedder, "plain")
    pieces = [embedder.processor(Content(text)) for text in TEXTS]
    torch.testing.assert_close(embedder(pieces), embedder.pool(pieces))
