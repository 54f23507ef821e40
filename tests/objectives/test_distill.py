from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from commonspace.errors import ConfigError
from commonspace.objectives.distill import InBatchTeacher, embedding_match, in_batch_score_match, score_match
from commonspace.objectives.nce import bidirectional_nce, nce_loss
from commonspace.objectives.nce_options import NCEOptions


def test_embedding_match_is_the_squared_distance_to_the_teachers_prefix():
    student = tuple(torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (5, 5, 3))
    teacher = tuple(torch.randn(n, 9, dtype=torch.float64, requires_grad=True) for n in (5, 5, 3))
    loss, _ = embedding_match(student, teacher)
    expected = 0.0
    for s, t in zip(student, teacher, strict=True):
        gap = F.normalize(s, dim=-1) - F.normalize(t[:, :4], dim=-1)
        expected += gap.square().sum(dim=-1).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(t.grad is None for t in teacher) and all(s.grad.norm() > 0 for s in student)
    assert embedding_match(student, student)[0].item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(ConfigError, match="rows must pair up"):
        embedding_match((torch.ones(2, 8),), (torch.ones(2, 4),))
    with pytest.raises(ConfigError, match="1 roles of the student for 2"):
        embedding_match(student[:1], teacher[:2])


def test_score_match_is_a_divergence_that_agreement_brings_to_zero():
    query, positive = torch.randn(2, 4, 6, dtype=torch.float64)
    negative = torch.randn(4, 3, 6, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]]).bool()
    documents = F.normalize(torch.cat([positive[:, None], negative], 1), dim=-1)
    own = torch.einsum("be,bte->bt", F.normalize(query, dim=-1), documents) / 0.1
    same, report = score_match(query, positive, negative, teacher_BT=own + 7, temperature=0.1, negative_mask_BK=mask)
    assert same.item() == pytest.approx(0, abs=1e-12) and report["agreement"] == 1
    teacher = torch.randn(4, 4, dtype=torch.float64)
    keep = torch.cat([torch.ones(4, 1, dtype=torch.bool), mask], 1)
    expected = 0.0
    for row in range(4):
        p, q = teacher[row][keep[row]].softmax(0), own[row][keep[row]].softmax(0)
        expected += float((p * (p / q).log()).sum()) / 4
    query.requires_grad_()
    loss, _ = score_match(query, positive, negative, teacher_BT=teacher, temperature=0.1, negative_mask_BK=mask)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    loss.backward()
    assert query.grad.isfinite().all()


def test_a_teacher_sure_of_the_positive_is_the_classification_loss():
    query, positive = torch.randn(2, 4, 6)
    negative = torch.randn(4, 3, 6)
    teacher = torch.tensor([[1e4, 0, 0, 0]]).expand(4, 4)
    loss, _ = score_match(query, positive, negative, teacher_BT=teacher, temperature=0.1)
    options = NCEOptions(classification=True)
    torch.testing.assert_close(loss, nce_loss(query, positive, negative, temperature=0.1, options=options)[0])
    with pytest.raises(ConfigError, match=r"\[B, 1 \+ K\]"):
        score_match(query, positive, negative, teacher_BT=teacher[:, :3], temperature=0.1)


def test_in_batch_scores_are_two_divergences_of_plain_softmaxes():
    query, positive = torch.randn(2, 5, 6, dtype=torch.float64)
    scores = torch.randn(5, 5, dtype=torch.float64)
    loss, _ = in_batch_score_match(query, positive, teacher=InBatchTeacher.of(scores, 0.2), temperature=0.1)
    student = F.cosine_similarity(query[:, None], positive[None], dim=-1) / 0.1
    teacher = scores / 0.2
    expected = sum(
        F.kl_div(s.log_softmax(1), t.softmax(1), reduction="batchmean")
        for s, t in ((student, teacher), (student.T, teacher.T))
    )
    torch.testing.assert_close(loss, expected)


def test_a_teacher_sure_of_its_pairs_is_the_contrastive_loss_with_its_mask():
    query, positive = torch.randn(2, 6, 8, dtype=torch.float64, requires_grad=True)
    ids = {"query_ids": torch.tensor([0, 1, 2, 3, 4, 0]), "positive_ids": torch.tensor([0, 1, 1, 3, 4, 5])}
    sure = InBatchTeacher.of(torch.eye(6), 1e-3, **ids)
    loss, report = in_batch_score_match(query, positive, teacher=sure, temperature=0.1)
    expected, plain = bidirectional_nce(query, positive, temperature=0.1, **ids)
    torch.testing.assert_close(loss, expected)
    assert report["agreement"] == pytest.approx(plain["accuracy"].item())


def test_a_student_that_agrees_has_no_loss_and_the_teacher_no_gradient():
    query, positive = (torch.randn(5, 6, dtype=torch.float64, requires_grad=True) for _ in range(2))
    scores = F.normalize(query, dim=-1) @ F.normalize(3 * positive, dim=-1).T
    loss, report = in_batch_score_match(query, positive, teacher=InBatchTeacher.of(scores, 0.1), temperature=0.1)
    assert loss.item() == pytest.approx(0, abs=1e-12) and report["agreement"] == 1
    loss.backward()  # through the student alone
    assert query.grad.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": InBatchTeacher.of(torch.eye(4), 0.1)}, r"\[B, E\], \[B, E\] and \[B, B\]"),
        ({"temperature": torch.ones(5)}, "one value"),
    ],
)
def test_wrong_shapes_of_a_batchs_scores_are_refused(change, message):
    arguments = {"teacher": InBatchTeacher.of(torch.eye(5), 0.1), "temperature": 0.1} | change
    with pytest.raises(ConfigError, match=message):
        in_batch_score_match(torch.ones(5, 6), torch.ones(5, 6), **arguments)


def test_a_teachers_scores_are_square():
    with pytest.raises(ConfigError, match=r"\(4, 5\); they must be \[B, B\]"):
        InBatchTeacher.of(torch.ones(4, 5), 0.1)
