"""Several sizes of one vector: equal to the loss itself at full size, and to hand-cut prefixes at every size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from commonspace.errors import ConfigError
from commonspace.objectives.cosent import cosent_loss
from commonspace.objectives.distill import InBatchTeacher, embedding_match, in_batch_score_match, score_match
from commonspace.objectives.matryoshka import matryoshka, prefix
from commonspace.objectives.nce import bidirectional_nce, nce_loss
from commonspace.objectives.sigmoid import sigmoid_loss
from commonspace.objectives.spread import spread_loss

ARGUMENTS = {"temperature": 0.1, "positive_ids": torch.tensor([1, 2, 1, 4, 5])}


@pytest.fixture
def vectors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = [(5, 16), (5, 16), (5, 2, 16)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("loss_fn", [nce_loss, bidirectional_nce])
def test_at_full_size_alone_equals_the_loss_itself(vectors, loss_fn):
    plain, plain_report = loss_fn(*vectors, **ARGUMENTS)
    nested, report = matryoshka(loss_fn, [16])(*vectors, **ARGUMENTS)
    torch.testing.assert_close(nested, plain)
    torch.testing.assert_close(torch.autograd.grad(nested, vectors), torch.autograd.grad(plain, vectors))
    for name in plain_report.keys() - {"loss"}:
        torch.testing.assert_close(report[name], plain_report[name])


def test_is_the_weighted_sum_over_renormalised_prefixes(vectors):
    weights = {4: 0.5, 8: 1.0, 16: 2.0}
    total, report = matryoshka(nce_loss, list(weights), list(weights.values()))(*vectors, **ARGUMENTS)
    parts = {size: nce_loss(*(v[..., :size] for v in vectors), **ARGUMENTS)[0] for size in weights}
    torch.testing.assert_close(total, sum(weight * parts[size] for size, weight in weights.items()))
    assert report["loss"] == total
    for size, part in parts.items():
        torch.testing.assert_close(report[f"loss@{size}"], part.detach())


def test_weights_are_equal_by_default_and_none_negatives_pass(vectors):
    total, report = matryoshka(nce_loss, [4, 16])(vectors[0], vectors[1], None, temperature=0.1)
    torch.testing.assert_close(total.detach(), report["loss@4"] + report["loss@16"])


def test_a_loss_that_does_not_normalise_sees_unit_prefixes(vectors):
    def lengths(query, positive):
        return query.norm(dim=-1).mean() + positive.norm(dim=-1).mean(), {}

    total, _ = matryoshka(lengths, [4, 8])(*vectors[:2])
    assert total.item() == pytest.approx(4.0)
    nested, _ = matryoshka(spread_loss, [8])(*vectors[:2])
    torch.testing.assert_close(nested, spread_loss(vectors[0][:, :8], vectors[1][:, :8])[0])


def test_a_cut_vector_is_the_renormalised_prefix():
    vector = torch.tensor([[3.0, 4.0, 12.0]])
    torch.testing.assert_close(prefix(vector, 2), torch.tensor([[0.6, 0.8]]))
    torch.testing.assert_close(prefix(F.normalize(vector), 2), prefix(vector, 2))
    assert prefix(vector.half(), 2).dtype == torch.float32


@pytest.mark.parametrize(
    ("sizes", "weights", "message"),
    [
        ([], None, "at least one"),
        ([4, 4], None, "different"),
        ([0, 4], None, "positive"),
        ([4, 8], [1.0], "1 matryoshka weights for 2"),
        ([4, 8], [1.0, 0.0], "must be positive"),
    ],
)
def test_wrong_sizes_and_weights_are_refused(sizes, weights, message):
    with pytest.raises(ConfigError, match=message):
        matryoshka(nce_loss, sizes, weights)


def test_a_size_beyond_the_embedding_is_refused(vectors):
    with pytest.raises(ConfigError, match="larger than the embedding, 16"):
        matryoshka(nce_loss, [16, 32])(*vectors, **ARGUMENTS)


# Any loss of the family, with arguments of its own.
FAMILY = {
    "sigmoid": (sigmoid_loss, {"temperature": 0.1, "bias": -1.0}),
    "cosent": (cosent_loss, {"temperature": 0.1, "scores": torch.tensor([0.1, 0.5, 0.5, 0.9, 0.2])}),
    "score_match": (score_match, {"temperature": 0.1, "teacher_BT": torch.linspace(0, 1, 15).reshape(5, 3)}),
    "in_batch": (
        in_batch_score_match,
        {"temperature": 0.1, "teacher": InBatchTeacher.of(torch.linspace(0, 1, 25).reshape(5, 5), 0.2)},
    ),
    "spread": (spread_loss, {}),
}


@pytest.mark.parametrize("name", FAMILY)
def test_over_any_loss_is_the_sum_over_prefixes(vectors, name):
    loss_fn, arguments = FAMILY[name]
    used = vectors if name in ("sigmoid", "score_match") else vectors[:2]
    total, _ = matryoshka(loss_fn, (4, 16))(*used, **arguments)
    parts = [loss_fn(*(vector[..., :size] for vector in used), **arguments)[0] for size in (4, 16)]
    torch.testing.assert_close(total, sum(parts))
    torch.testing.assert_close(torch.autograd.grad(total, used), torch.autograd.grad(sum(parts), used))


def test_roles_in_a_tuple_are_cut_too(vectors):
    student, teacher = tuple(vectors[:2]), tuple(torch.randn(5, 24, dtype=torch.float64) for _ in range(2))
    total, _ = matryoshka(embedding_match, (4, 16))(student, teacher)
    parts = [embedding_match(tuple(role[:, :size] for role in student), teacher)[0] for size in (4, 16)]
    torch.testing.assert_close(total, sum(parts))
