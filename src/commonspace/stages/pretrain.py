"""Stage 1: many noisy pairs of image, text and code; large single-task batches; no hard negatives (section 3.3)."""

from __future__ import annotations

from commonspace.data.datamodule import Batch
from commonspace.errors import ConfigError
from commonspace.stages.contrastive import ContrastiveStage


class PretrainStage(ContrastiveStage):
    """From a pretrained encoder to an embedder; audio, video and documents stay out until fine-tuning."""

    has_negatives = False

    def training_step(self, batch: Batch, index: int) -> None:
        """As in `ContrastiveStage`; hard negatives are refused rather than dropped."""
        if any(batch.negatives):
            raise ConfigError(f"task {batch.task} brings hard negatives, which pretraining has none of; use finetune")
        super().training_step(batch, index)
