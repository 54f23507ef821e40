from types import SimpleNamespace

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from commonspace.stages.progress import StepsBar


class Slope(pl.LightningModule):
    """The least that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.ones(()))

    def training_step(self, batch, index):
        return (self.slope * batch).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Seen(StepsBar):
    """Keeps what the bar was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told = []

    def _add_task(self, total_batches, description, visible=True):
        self.told.append((total_batches, description))
        return super()._add_task(total_batches, description, visible)


def test_a_resumed_run_counts_to_all_its_steps(tmp_path):
    def trainer(steps, *callbacks):
        return pl.Trainer(
            max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, callbacks=list(callbacks),
            default_root_dir=tmp_path, enable_checkpointing=False, enable_model_summary=False,
        )  # fmt: skip

    loader = DataLoader(torch.ones(8, 1))
    first = trainer(3)
    first.fit(Slope(), loader)
    first.save_checkpoint(tmp_path / "three.ckpt")
    bar = Seen()
    trainer(8, bar).fit(Slope(), loader, ckpt_path=tmp_path / "three.ckpt")
    assert (8, "training") in bar.told


def test_the_total_is_of_batches_where_gradients_are_accumulated():
    bar = StepsBar()
    bar._trainer = SimpleNamespace(num_training_batches=12, max_steps=6, global_step=2)
    assert bar.total_train_batches == 12
