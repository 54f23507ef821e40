"""What pretraining and fine-tuning share: one optimiser step of the contrastive recipe."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import chain

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn

from commonspace.data.datamodule import Batch
from commonspace.data.encoding import Processing
from commonspace.errors import ConfigError
from commonspace.models.checkpointing import checkpoint_activations
from commonspace.models.embedder import Embedder
from commonspace.objectives.gather import average_gradients
from commonspace.objectives.gradcache import cached_backward, token_chunks
from commonspace.objectives.nce import pad_negatives
from commonspace.objectives.temperature import Temperature
from commonspace.processing.pieces import Pieces
from commonspace.stages.objective import Objective
from commonspace.stages.optimiser import freeze, make_optimiser
from commonspace.stages.settings import STAGE_MODALITIES, StageSettings


class ContrastiveStage(pl.LightningModule):
    """A stage trains an `Embedder` on single-task batches with one objective; it adds no weights but temperatures.

    Optimisation is manual because gradient caching runs its own backward passes; clipping and the step then happen
    once, here. With several processes gradients are averaged here too, once a step, after the last backward pass:
    `loss.backward()` does not go through Lightning, so DistributedDataParallel never reduces on its own.
    Relations: one step equals a plain forward and backward on the whole batch.
    """

    automatic_optimization = False
    has_negatives = True

    def __init__(
        self, embedder: Embedder, settings: StageSettings, objective: Objective, steps: int, *, bf16: bool = False
    ) -> None:
        super().__init__()
        self.embedder = embedder
        self.settings = settings
        self.objective = objective
        self.steps = steps
        self.bf16 = bf16
        self.temperature = Temperature(
            settings.temperature, learned=settings.learn_temperature, tasks=dict(settings.task_temperatures)
        )
        freeze(embedder, settings.freeze)
        embedder.backbone.set_dropout(settings.dropout)
        if settings.gradient_checkpointing:
            checkpoint_activations(embedder.backbone)

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The processes that share a batch; None for one alone."""
        return dist.group.WORLD if dist.is_initialized() and dist.get_world_size() > 1 else None

    @staticmethod
    def processing(processor: Processing) -> Processing:
        """What makes of contents the pieces that this stage's batches carry; here the model's own processor."""
        return processor

    @classmethod
    def check_tasks(cls, name: str, modalities: Mapping[str, Collection[str]]) -> None:
        """Refuse tasks ({task: modalities of its sides}) that the paper's recipe keeps out of this stage."""
        allowed = STAGE_MODALITIES[name]
        if wrong := {task: set(found) - allowed for task, found in modalities.items() if set(found) - allowed}:
            listing = ", ".join(f"{task} ({', '.join(sorted(found))})" for task, found in wrong.items())
            raise ConfigError(f"stage {name} trains on {sorted(allowed)} only; take out {listing}, or use finetune")

    def configure_optimizers(self) -> dict:
        extra = [p for p in self.temperature.parameters() if p.requires_grad]
        optimiser, schedule = make_optimiser(self.embedder, self.settings, self.steps, extra)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def training_step(self, batch: Batch, index: int) -> None:
        """One optimiser step on one single-task batch; logs what a spike would have to be traced with."""
        started = time.perf_counter()
        optimiser = self.optimizers()
        optimiser.zero_grad(set_to_none=True)
        loss, report = self.backward_batch(batch)
        if self.group is not None:
            average_gradients(self.parameters(), self.group)
        norm = nn.utils.clip_grad_norm_(
            [p for p in self.parameters() if p.grad is not None], self.settings.clip_norm, error_if_nonfinite=True
        )
        optimiser.step()
        self.lr_schedulers().step()
        self._log_step(batch, loss, report, norm, time.perf_counter() - started)

    def backward_batch(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Gradients of the objective on the whole batch, by caching where it has more tokens than `cache_tokens`."""
        contents = [*batch.query, *batch.positive, *chain.from_iterable(batch.negatives)]
        chunks = token_chunks([pieces.tokens for pieces in contents], self.settings.cache_tokens, padded=False)
        if len(chunks) > 1:
            return cached_backward(self._encode, contents, chunks, partial(self.loss_of, batch))
        loss, report = self.loss_of(batch, self._encode(contents))
        loss.backward()
        return loss.detach(), report

    def _encode(self, contents: Sequence[Pieces]) -> torch.Tensor:
        """Vectors float32 [N, E]; under bf16 the towers run in autocast, the loss never does."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return self.embedder(contents).float()

    def loss_of(self, batch: Batch, vectors_NE: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Objective of a batch whose queries, positives and (ragged) negatives lie one after the other in N."""
        size = len(batch.query)
        query_BE, positive_BE, flat_ME = vectors_NE.split([size, size, len(vectors_NE) - 2 * size])
        negative_BKE = mask_BK = None
        if self.has_negatives:  # a batch that happens to have none passes an empty [B, 0, E]
            negative_BKE, mask_BK = pad_negatives(flat_ME, [len(row) for row in batch.negatives])
        return self.objective(
            batch.task,
            query_BE,
            positive_BE,
            negative_BKE,
            temperature=self.temperature(batch.task),
            query_ids=batch.query_ids.to(query_BE.device),
            positive_ids=batch.positive_ids.to(query_BE.device),
            negative_mask_BK=mask_BK,
            group=self.group,
        )

    def _log_step(
        self,
        batch: Batch,
        loss: torch.Tensor,
        report: dict[str, torch.Tensor],
        norm: torch.Tensor,
        spent: float,
    ) -> None:
        """Log one step; its time is the wait for its batch and the step itself, not what callbacks do after it."""
        seconds = batch.waited + spent
        values = {
            "loss": loss,
            f"loss/{batch.task}": loss,
            f"gradient_norm/{batch.task}": norm,
            "gradient_norm": norm,
            "temperature": self.temperature(batch.task),
            "tokens_per_second": batch.tokens / seconds,
            "samples_per_second": len(batch) / seconds,
            "wait_seconds": batch.waited,
            "wait_share": batch.waited / seconds,
            "skipped": len(batch.skipped),
            "learning_rate": self.lr_schedulers().get_last_lr()[0],
            **{f"{name}/{batch.task}": value for name, value in report.items()},
        }
        if self.trainer.global_step % self.trainer.log_every_n_steps == 0:
            self.log_now({f"train/{key}": float(value) for key, value in values.items()})
        self.log("loss", float(loss), prog_bar=True, logger=False, batch_size=len(batch.query))

    def log_now(self, values: Mapping[str, float]) -> None:
        """Log values for the step just taken and no other.

        Lightning's own `log` says a value again at every later step: one task's loss beside the batches of all others.
        """
        for logger in self.loggers:
            logger.log_metrics(dict(values), step=self.trainer.global_step - 1)
            logger.save()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep only what trains: frozen weights come back from the model the stage started from."""
        frozen = {f"embedder.{name}" for name, p in self.embedder.named_parameters() if not p.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        """Load a checkpoint of this stage; anything missing beyond frozen weights, or unknown, raises."""
        missing, unexpected = super().load_state_dict(state_dict, strict=False, assign=assign)
        trained = {f"embedder.{name}" for name, p in self.embedder.named_parameters() if p.requires_grad}
        if lost := sorted(trained & set(missing)) or sorted(unexpected):
            raise ConfigError(f"checkpoint and model differ at {', '.join(lost[:5])}: was another configuration saved?")
        return missing, unexpected
