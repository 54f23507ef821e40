"""Alignment moves connectors towards word embeddings and nothing else."""

import pytest
import torch

from commonspace import Content
from commonspace.errors import ConfigError
from commonspace.objectives.nce_options import NCEOptions
from commonspace.stages.align import AlignStage, word_weights
from commonspace.stages.objective import Objective
from commonspace.stages.optimiser import make_optimiser
from commonspace.stages.settings import StageSettings
from tests.models.tiny import tiny_embedder
from tests.stages.test_contrastive import make_batch

FROZEN = ("words", "text", "vision", "audio")


def make_stage(embedder, sizes=None) -> AlignStage:
    settings = StageSettings("align", steps=40, freeze=FROZEN, new_learning_rate=3e-3, schedule="constant", warmup=0.0)
    return AlignStage(embedder, settings, Objective(sizes, {"image_caption"}, NCEOptions()), steps=40)


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_a_connector_learns_its_texts_words_and_nothing_else_moves(kind):
    torch.manual_seed(0)
    embedder = tiny_embedder()
    before = {name: p.clone() for name, p in embedder.named_parameters()}
    stage, batch = make_stage(embedder), make_batch(embedder, negatives=False, kind=kind)
    optimiser, _ = make_optimiser(embedder, stage.settings, 40)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss, _ = stage.backward_batch(batch)
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    moved = {name for name, p in embedder.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all(f"{kind}_connector" in name for name in moved)


def test_a_bag_of_words_is_the_weighted_mean_of_word_embeddings():
    embedder = tiny_embedder()
    stage, batch = make_stage(embedder), make_batch(embedder, negatives=False)
    pieces = embedder.processor(Content("a red fox"))
    ids = pieces.pieces[0].value[1:-1]  # <s> and </s> weigh nothing
    words_LD = embedder.backbone.text.get_input_embeddings().weight[ids]
    torch.testing.assert_close(stage._bag(batch, pieces), words_LD.mean(0))  # a word-level vocabulary weighs all alike
    assert word_weights(embedder)[pieces.pieces[0].value[0]] == 0


def test_what_cannot_be_aligned_is_refused():
    embedder = tiny_embedder()
    with pytest.raises(ConfigError, match="matryoshka"):
        make_stage(embedder, sizes=(8, 32))
    stage, batch = make_stage(embedder), make_batch(embedder, negatives=False)
    batch.query = batch.positive
    with pytest.raises(ConfigError, match="no media"):
        stage.backward_batch(batch)
