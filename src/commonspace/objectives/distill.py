"""Learning from a teacher: its vectors (EmbedDistill, as in EmbeddingGemma 2509.20354), its scores of the batch's own
targets, or a reranker's scores of a row's documents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from commonspace.errors import ConfigError


def embedding_match(student_BE: tuple[Tensor, ...], teacher_BF: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared distance of unit vectors, summed over roles (queries, positives, negatives) with equal weights.

    `student_BE` and `teacher_BF` hold one tensor [n, E] and [n, F] a role, in the same order; a teacher wider than the
    student (F > E) is cut to the student's width and renormalised, which suits teachers trained with nested sizes.
    Negatives matter: EmbeddingGemma reports a clear gain from matching them too. Teachers get no gradient.

    Report: `loss`, and `cosine`, the mean cosine over roles. Relations: 2 - 2 x that cosine a role.
    """
    if not student_BE or len(student_BE) != len(teacher_BF):
        raise ConfigError(f"{len(student_BE)} roles of the student for {len(teacher_BF)} of the teacher")
    cosines = []
    for student, teacher in zip(student_BE, teacher_BF, strict=True):
        if len(student) != len(teacher) or teacher.shape[-1] < student.shape[-1]:
            shapes = f"{tuple(student.shape)} and {tuple(teacher.shape)}"
            raise ConfigError(f"student and teacher vectors are {shapes}: rows must pair up, the teacher be as wide")
        wide = torch.promote_types(student.dtype, torch.float32)
        target = teacher.detach()[..., : student.shape[-1]].to(wide)
        with torch.autocast(student.device.type, enabled=False):
            cosines.append((F.normalize(student.to(wide), dim=-1) * F.normalize(target, dim=-1)).sum(-1).mean())
    cosine = torch.stack(cosines)
    loss = (2 - 2 * cosine).sum()
    return loss, {"loss": loss.detach(), "cosine": cosine.mean().detach()}


@dataclass(frozen=True)
class InBatchTeacher:
    """What a teacher's scores of a batch's own targets say, worked out once for a loss taken at several sizes.

    shares_BB  of a query's targets, plus of a target's queries: two softmaxes of the scores
    certainty  minus the entropy of both, summed
    first_B    the target that is best for each query
    equal_BB   pairs that count on neither side
    """

    shares_BB: Tensor
    certainty: Tensor
    first_B: Tensor
    equal_BB: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        scores_BB: Tensor,
        temperature: float,
        query_ids: Tensor | None = None,
        positive_ids: Tensor | None = None,
    ) -> InBatchTeacher:
        """Scores of each query and target, divided by `temperature`; pairs with equal ids but their own are left out,
        as in equation 3.
        """
        if scores_BB.ndim != 2 or len(scores_BB) != scores_BB.shape[1]:
            raise ConfigError(
                f"teacher scores are {tuple(scores_BB.shape)}; they must be [B, B], one a query and target"
            )
        equal_BB = torch.zeros_like(scores_BB, dtype=torch.bool)
        for ids in (query_ids, positive_ids):
            if ids is not None:
                equal_BB |= ids[:, None] == ids[None]
        equal_BB.fill_diagonal_(False)
        with torch.autocast(scores_BB.device.type, enabled=False):
            logits_BB = (scores_BB / temperature).masked_fill(equal_BB, -math.inf)
            shares = logits_BB.softmax(1), logits_BB.softmax(0)
        certainty = torch.stack([torch.xlogy(share_BB, share_BB).sum() for share_BB in shares]).sum()
        return cls(shares[0] + shares[1], certainty, logits_BB.argmax(1), equal_BB)


def in_batch_score_match(
    query_BE: Tensor, positive_BE: Tensor, *, teacher: InBatchTeacher, temperature: float | Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """KL(teacher || student) over the batch's targets for each query, plus over its queries for each target.

    Scores are the student's cosines divided by `temperature`. Pairs that the teacher leaves out count on neither side.

    Report: `loss`, and `agreement`, how often both rank the same target first. Relations: with a teacher sure of each
    pair, `bidirectional_nce`; with one query's targets written out, `score_match`.
    """
    if query_BE.shape != positive_BE.shape or len(teacher.shares_BB) != len(query_BE):
        shapes = f"{tuple(query_BE.shape)}, {tuple(positive_BE.shape)} and {tuple(teacher.shares_BB.shape)}"
        raise ConfigError(f"queries, positives and teacher scores are {shapes}; they must be [B, E], [B, E] and [B, B]")
    if isinstance(temperature, Tensor) and temperature.numel() != 1:
        raise ConfigError(f"temperature {tuple(temperature.shape)} must be one value: a teacher's scores have one")
    wide = torch.promote_types(query_BE.dtype, torch.float32)
    with torch.autocast(query_BE.device.type, enabled=False):
        query_BE, positive_BE = (F.normalize(vectors.to(wide), dim=-1) for vectors in (query_BE, positive_BE))
        student_BB = query_BE @ positive_BE.T / temperature
        # KL is minus the entropy, minus the expected logit, plus the log of the student's sum. Written out, both sides
        # share the expected logits, and a step over B = 1024 and four sizes takes a third of the passes over B x B.
        expected = (teacher.shares_BB * student_BB).sum()
        student_BB = student_BB.masked_fill(teacher.equal_BB, -math.inf)
        sums = student_BB.logsumexp(1).sum() + student_BB.logsumexp(0).sum()
        loss = (teacher.certainty - expected + sums) / len(query_BE)
    agree = (student_BB.argmax(1) == teacher.first_B).to(wide).mean()
    return loss, {"loss": loss.detach(), "agreement": agree.detach()}


def _divergence(teacher_BT: Tensor, student_BT: Tensor) -> Tensor:
    """Mean over rows of KL(teacher || student) of logits; where both are -inf nothing counts."""
    log_teacher, log_student = teacher_BT.log_softmax(1), student_BT.log_softmax(1)
    gap_BT = (log_teacher - log_student).masked_fill(teacher_BT == -math.inf, 0)
    return (log_teacher.exp() * gap_BT).sum(1).mean()


def score_match(
    query_BE: Tensor,
    positive_BE: Tensor,
    negative_BKE: Tensor,
    *,
    teacher_BT: Tensor,
    temperature: float | Tensor,
    teacher_temperature: float = 1.0,
    negative_mask_BK: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """KL(teacher || student) over each row's 1 + K documents, positive first, mean over rows.

    `teacher_BT` [B, 1 + K] are the teacher's logits, divided by `teacher_temperature`; the student's are cosines
    divided by `temperature`. Documents that the mask leaves out count on neither side. Teachers get no gradient.

    Relations: cross-entropy against the teacher's softmax less that softmax's entropy, so 0 is reached by agreement;
    with a teacher sure of the positive, `nce_loss` in classification mode.
    """
    size, width = negative_BKE.shape[:2]
    if tuple(teacher_BT.shape) != (size, width + 1):
        raise ConfigError(f"teacher scores {tuple(teacher_BT.shape)} must be [B, 1 + K] = {(size, width + 1)}")
    wide = torch.promote_types(query_BE.dtype, torch.float32)
    with torch.autocast(query_BE.device.type, enabled=False):
        documents_BTE = F.normalize(torch.cat([positive_BE[:, None], negative_BKE], dim=1).to(wide), dim=-1)
        student_BT = torch.einsum("be,bte->bt", F.normalize(query_BE.to(wide), dim=-1), documents_BTE) / temperature
        teacher_BT = teacher_BT.detach().to(wide) / teacher_temperature
        keep_BT = torch.ones_like(teacher_BT, dtype=torch.bool)
        if negative_mask_BK is not None:
            keep_BT[:, 1:] = negative_mask_BK
        student_BT, teacher_BT = (scores.masked_fill(~keep_BT, -math.inf) for scores in (student_BT, teacher_BT))
        loss = _divergence(teacher_BT, student_BT)
    agree = (student_BT.argmax(1) == teacher_BT.argmax(1)).to(wide).mean()
    return loss, {"loss": loss.detach(), "agreement": agree.detach()}
