"""What stands under the peers' trainers is our model: the same vectors, and the same loss but for its scale."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from open_clip import ClipLoss
from PIL import Image as pil

from benchmarks.same_backbone import SameBackbone, TwoSided
from benchmarks.subject import TEMPERATURE, compact_model
from benchmarks.training_sides import Case, without_dropout
from commonspace import Content, Image
from commonspace.content import Text
from commonspace.objectives.nce import bidirectional_nce
from tests.stages.training import TEXTS, blocks

SENTENCES = ["a red fox", "a blue bird in the snow runs over the fox", "snow"]
PICTURES = [blocks(n) for n in range(3)]


@pytest.fixture
def under_peers(small_weights: Path) -> SameBackbone:
    return SameBackbone(compact_model(small_weights, ("image",))).eval()


@torch.no_grad()
def test_vectors_are_the_embedders(under_peers: SameBackbone) -> None:
    embedder = under_peers.embedder
    for inputs, contents in (
        (SENTENCES, [Content(text) for text in SENTENCES]),
        ([pil.fromarray(picture) for picture in PICTURES], [Content(Image(picture)) for picture in PICTURES]),
    ):
        found = under_peers(under_peers.preprocess(inputs))["sentence_embedding"]
        torch.testing.assert_close(found, embedder([embedder.processor(content) for content in contents]))


@torch.no_grad()
def test_the_loss_of_open_clip_is_half_of_ours(under_peers: SameBackbone) -> None:
    model = TwoSided(under_peers)
    pixels = under_peers.preprocess([pil.fromarray(picture) for picture in PICTURES])["pixel_values"]
    found = ClipLoss()(**model(pixels, under_peers.preprocess(SENTENCES)["input_ids"]))
    images, texts = (
        under_peers.embedder([under_peers.embedder.processor(content) for content in contents])
        for contents in ([Content(Image(picture)) for picture in PICTURES], [Content(text) for text in SENTENCES])
    )
    ours, _ = bidirectional_nce(images, texts, temperature=TEMPERATURE)
    torch.testing.assert_close(2 * found, ours)


def test_word_table_and_image_tower_are_frozen(under_peers: SameBackbone) -> None:
    frozen = {name.split(".")[2] for name, p in under_peers.named_parameters() if not p.requires_grad}
    assert frozen == {"text", "vision"}
    trained = [name for name, p in under_peers.named_parameters() if p.requires_grad]
    assert any("encoder.layer" in name for name in trained)
    assert not [name for name in trained if "word_embeddings" in name or ".vision." in name]


def test_without_dropout_training_is_deterministic(under_peers: SameBackbone) -> None:
    without_dropout(under_peers)
    under_peers.train()
    features = under_peers.preprocess(SENTENCES)
    first, second = (under_peers(features)["sentence_embedding"] for _ in range(2))
    assert torch.equal(first, second)


def test_peers_are_given_the_samples_that_our_trainer_draws(small_weights: Path, small_data: Path) -> None:
    case = Case("summary", 4, 3, "32-true", small_weights, small_data)
    embedder = compact_model(small_weights, ())
    pairs = case.pairs(embedder)
    module = case.datamodule(embedder)
    module.workers = 0
    drawn = [int(number) for batch in module.loader() for number in batch.query_ids]
    assert [Content(Text(query)).digest() for query, _ in pairs] == drawn
    assert all(query in TEXTS and positive == f"the {query}" for query, positive in pairs)
