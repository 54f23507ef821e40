"""Stage 2: every modality, hard negatives where there are some, batch size and rate per task (section 3.3)."""

from __future__ import annotations

from commonspace.stages.contrastive import ContrastiveStage


class FinetuneStage(ContrastiveStage):
    """From the pretrained embedder to one ingredient of the soup."""
