"""The bar of a training run: steps of all there are, also after a restart."""

from __future__ import annotations

from pytorch_lightning.callbacks import RichProgressBar


class StepsBar(RichProgressBar):
    """Lightning's rich bar for runs counted in steps.

    Its own tells an epoch that such runs do not have, and after a restart counts to the steps that were left.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=1, leave=True)  # a second: a training step is slower than that on a CPU

    @property
    def total_train_batches(self) -> int | float:
        """Batches of the whole run; several make a step where gradients are accumulated."""
        return self.trainer.num_training_batches

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"
