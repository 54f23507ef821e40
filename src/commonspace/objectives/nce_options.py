"""How a contrastive loss may depart from the paper, checked when a config is read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from commonspace.errors import ConfigError


@dataclass(frozen=True)
class NCEOptions:
    """Departures from equation 2; the defaults are the paper. Contradictory or idle options raise ConfigError.

    same_tower      Adds e^{s(q_i,q_j)/t} ("query"), e^{s(p_i,p_j)/t} ("positive") or both to the denominator, under the
                    mask of equation 3. Relations: "query" is Gecko's loss (2403.20327), whose own mask leaves out only
                    j = i; "both" with `mask_margin` is Qwen3-VL-Embedding's first stage (2601.04720). Gemini
                    Embedding dropped these terms for their false negatives.
    mask_margin     Leaves out every negative, hard ones included, with s > s(q_i,p_i) + margin. Relations:
                    Qwen3-VL-Embedding uses 0.1; the paper masks by identity only. A margin of 2 masks nothing.
    hardness_alpha  Weighs a negative's term by e^{alpha sg(s)}, sg = stop gradient: as if its logit were s/t + alpha s
                    while the gradient stays that of s/t.
    hardness_on     "hard": explicit negatives only, EmbeddingGemma's loss with alpha 5 (2509.20354); "all": every
                    negative, RzenEmbed's with alpha 9 (2510.27350).
    share_negatives Hard negatives of every row, on every process, count in every row, except one whose id is that of
                    the row's own positive (pass `negative_ids_BK`). Relations: the pool of sentence-transformers'
                    MultipleNegativesRankingLoss; equal to the default for a batch of one row.
    classification  The denominator holds the positive and the row's own hard negatives only: explicit wrong labels.
                    Relations: cross-entropy over 1 + K labels; what equation 2 leaves when all targets are masked.
    mask            False: of equation 3's mask only j = i is left: a repeated query or target counts as a wrong one, as
                    in plain in-batch losses.
    chunk_rows      Rows of the logit matrix held at a time; they are computed again in the backward pass. Relations:
                    the same value and gradient as the whole matrix, memory linear in the batch, one more product.
    """

    same_tower: Literal["none", "query", "positive", "both"] = "none"
    mask_margin: float | None = None
    hardness_alpha: float = 0.0
    hardness_on: Literal["hard", "all"] = "hard"
    share_negatives: bool = False
    classification: bool = False
    mask: bool = True
    chunk_rows: int | None = None

    def __post_init__(self) -> None:
        _one_of("same_tower", self.same_tower, ("none", "query", "positive", "both"))
        _one_of("hardness_on", self.hardness_on, ("hard", "all"))
        if not (math.isfinite(self.hardness_alpha) and self.hardness_alpha >= 0):
            raise ConfigError(f"hardness_alpha={self.hardness_alpha} must be a number of at least 0")
        if self.hardness_on == "all" and self.hardness_alpha == 0:
            raise ConfigError("hardness_on=all has no effect with hardness_alpha=0; set it (RzenEmbed: 9)")
        if self.mask_margin is not None and not 0 <= self.mask_margin < 2:
            raise ConfigError(f"mask_margin={self.mask_margin} must lie in [0, 2), as cosines differ by 2 at most")
        if self.chunk_rows is not None and self.chunk_rows < 1:
            raise ConfigError(f"chunk_rows={self.chunk_rows} must be at least 1, or null for the whole matrix at once")
        if self.classification and (self.same_tower != "none" or self.share_negatives):
            raise ConfigError(
                "classification keeps a row's own wrong labels only, so same_tower and share_negatives have no effect"
            )

        if not self.mask and (self.classification or self.share_negatives):
            raise ConfigError(
                "mask=false: classification has no targets to mask, and share_negatives needs it: a shared negative is "
                "left out where it is a row's own positive; set mask to true"
            )

    @property
    def needs_negatives(self) -> bool:
        """Whether an option only acts on explicit hard negatives."""
        return self.classification or self.share_negatives or (self.hardness_alpha > 0 and self.hardness_on == "hard")

    @classmethod
    def from_config(cls, values: Mapping[str, Any]) -> NCEOptions:
        """Options from a config mapping; an unknown name raises ConfigError."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown option {', '.join(unknown)} of nce; it has {', '.join(sorted(known))}")
        return cls(**values)


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}={value} is unknown; choose one of {', '.join(choices)}")


PAPER = NCEOptions()
