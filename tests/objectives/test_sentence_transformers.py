"""Against the losses of sentence-transformers, where it is installed: value and gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from commonspace.objectives.cosent import cosent_loss
from commonspace.objectives.distill import embedding_match, score_match
from commonspace.objectives.matryoshka import matryoshka
from commonspace.objectives.nce import bidirectional_nce, nce_loss
from commonspace.objectives.nce_options import NCEOptions
from commonspace.objectives.spread import spread_loss

losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")

TEMPERATURE = 0.05
B, K, E = 6, 2, 8


@pytest.fixture
def vectors() -> list[Tensor]:
    """Queries, positives, hard negatives."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(B, E), (B, E), (B, K, E)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def assert_equal(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs)
    found, expected = (torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (ours, theirs))
    assert all(gradient.norm() > 0 for gradient in expected)
    torch.testing.assert_close(found, expected)


def ranking(vectors: list[Tensor], **options) -> Tensor:
    loss = losses.MultipleNegativesRankingLoss(None, scale=1 / TEMPERATURE, **options)
    columns = [vectors[0], vectors[1], *(vectors[2].unbind(1) if len(vectors) > 2 else ())]
    return loss.compute_loss_from_embeddings(columns, None)


def test_shared_negatives(vectors):
    loss, _ = nce_loss(*vectors, temperature=TEMPERATURE, options=NCEOptions(share_negatives=True))
    assert_equal(loss, ranking(vectors), vectors)


@pytest.mark.parametrize(
    ("same_tower", "directions"),
    [
        ("query", ("query_to_doc", "query_to_query")),
        ("positive", ("query_to_doc", "doc_to_doc")),
        ("both", ("query_to_doc", "query_to_query", "doc_to_doc")),
    ],
)
def test_same_tower_terms(vectors, same_tower, directions):
    loss, _ = nce_loss(*vectors[:2], temperature=TEMPERATURE, options=NCEOptions(same_tower=same_tower))
    assert_equal(loss, ranking(vectors[:2], directions=directions), vectors[:2])


def test_both_directions_are_twice_their_mean(vectors):
    loss, _ = bidirectional_nce(*vectors[:2], temperature=TEMPERATURE)
    directions = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    assert_equal(loss, 2 * ranking(vectors[:2], **directions), vectors[:2])


@pytest.mark.parametrize("with_negatives", [False, True])
def test_hardness_on_every_negative(vectors, with_negatives):
    used = vectors if with_negatives else vectors[:2]
    options = NCEOptions(hardness_alpha=9.0, hardness_on="all", share_negatives=with_negatives)
    loss, _ = nce_loss(*used, temperature=TEMPERATURE, options=options)
    assert_equal(loss, ranking(used, hardness_mode="all_negatives", hardness_strength=9.0), used)


def test_hardness_on_hard_negatives_of_a_single_row(vectors):
    """Theirs weighs a row's own hard negatives and shares them unweighted; for one row the two pools are one."""
    row = [part[:1].detach().requires_grad_() for part in vectors]
    loss, _ = nce_loss(*row, temperature=TEMPERATURE, options=NCEOptions(hardness_alpha=5.0))
    assert_equal(loss, ranking(row, hardness_mode="hard_negatives", hardness_strength=5.0), row)


def test_graded_pairs(vectors):
    scores = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.0, 0.7], dtype=torch.float64)
    loss, _ = cosent_loss(*vectors[:2], scores=scores, temperature=TEMPERATURE)
    theirs = losses.CoSENTLoss(None, scale=1 / TEMPERATURE).compute_loss_from_embeddings(vectors[:2], scores)
    assert_equal(loss, theirs, vectors[:2])


def test_scores_of_a_teacher(vectors):
    teacher = torch.randn(B, 1 + K, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    loss, _ = score_match(*vectors, teacher_BT=teacher, temperature=0.1, teacher_temperature=0.5)
    unit = [F.normalize(part, dim=-1) for part in (vectors[0], vectors[1], *vectors[2].unbind(1))]
    peer = losses.DistillKLDivLoss(None, student_temperature=0.1, teacher_temperature=0.5)
    assert_equal(loss * 0.1**2, peer.compute_loss_from_embeddings(unit, teacher), vectors)


def test_vectors_of_a_teacher(vectors):
    """Ours sums squared distances over roles, 2 - 2 cosine each; theirs is the mean of 1 - cosine."""
    teacher = [torch.randn(B, E, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in range(2)]
    loss, _ = embedding_match(tuple(vectors[:2]), tuple(teacher))
    peer = losses.EmbedDistillLoss(None, distance_metric="cosine")
    assert_equal(loss, 4 * peer.compute_loss_from_embeddings(vectors[:2], teacher), vectors[:2])


def test_spread(vectors):
    """Theirs takes 1/E, the value of random vectors, off each side's second moment and stops at zero."""
    peer = losses.GlobalOrthogonalRegularizationLoss(
        None, mean_weight=None, second_moment_weight=1.0, aggregation="sum"
    )
    close = [part + 2 for part in vectors[:2]]  # above 1/E on both sides
    theirs = peer.compute_loss_from_embeddings(close)["gor_second_moment"]
    assert_equal(spread_loss(*close)[0] - 2 / E, theirs, vectors[:2])


def test_matryoshka_sizes_with_weights(vectors):
    weights = {2: 0.5, 4: 1.0, E: 2.0}
    loss, _ = matryoshka(nce_loss, list(weights), list(weights.values()))(*vectors[:2], temperature=TEMPERATURE)
    theirs = sum(weight * ranking([part[:, :size] for part in vectors[:2]]) for size, weight in weights.items())
    assert_equal(loss, theirs, vectors[:2])
