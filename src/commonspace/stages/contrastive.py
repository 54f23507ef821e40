"""What pretraining and fine-tuning share: one optimiser step of the contrastive recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn

from commonspace.data.datamodule import Batch
from commonspace.data.encoding import Processing
from commonspace.errors import ConfigError
from commonspace.models.checkpointing import checkpoint_activations
from commonspace.models.embedder import Embedder
from commonspace.objectives.gather import Group, average_gradients, gather_rows
from commonspace.objectives.gradcache import cached_backward, token_chunks
from commonspace.objectives.nce import pad_negative_ids, pad_negatives
from commonspace.objectives.step import GradientStep
from commonspace.objectives.temperature import ModalityTemperature, Temperature
from commonspace.processing.pieces import Pieces
from commonspace.stages.fillers import Fillers
from commonspace.stages.objective import Objective
from commonspace.stages.optimiser import freeze, make_optimiser, parameter_groups, unfreeze_towers
from commonspace.stages.settings import STAGE_MODALITIES, StageSettings
from commonspace.stages.sharding import clip_gradients, shard, unreduced, unsharded


class ContrastiveStage(pl.LightningModule):
    """A stage trains an `Embedder` on batches of one task with one objective; it adds no weights but temperatures.

    Optimisation is manual because gradient caching runs its own backward passes; the mean over batches and processes,
    clipping and the update then happen once a step, in `GradientStep`. `loss.backward()` does not go through Lightning,
    so DistributedDataParallel never reduces on its own.
    Relations: one step equals a plain forward and backward on the whole batch.
    Where a mesh shards the embedder (`stages.sharding`), the last backward pass reduces what is sharded.
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
        self.dev_scored: tuple[int, float] = (0, math.nan)  # after which step, and the mean over tasks
        self.temperature = make_temperature(settings)
        self._step: GradientStep | None = None  # made with the first batch, when optimiser and processes are there
        unfreeze_towers(embedder, settings.vision_trainable_stages, settings.audio_trainable)
        self.sharded = False
        self._fillers = Fillers(embedder.processor)
        freeze(embedder, settings.freeze, settings.frozen_layers)
        embedder.backbone.set_dropout(settings.dropout)
        if settings.gradient_checkpointing:
            checkpoint_activations(embedder.backbone)

    @property
    def group(self) -> dist.ProcessGroup | None:
        """The processes that share a batch; None for one alone."""
        return dist.group.WORLD if dist.is_initialized() and dist.get_world_size() > 1 else None

    def configure_model(self) -> None:
        """Shard the embedder where the trainer's strategy brings a mesh of processes; Lightning calls this."""
        if self._device_mesh is not None and not self.sharded:
            shard(self.embedder, self._device_mesh["data_parallel"])
            self.sharded = True

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
        optimiser, schedule = make_optimiser(self.embedder, self.settings, self.steps, self._beside())
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """The optimisers of this run."""
        self._step = None

    def training_step(self, batch: Batch, index: int) -> None:
        """Gradients of one batch, and every `accumulate` batches a step; logs what a spike is traced with.

        Random draws come from the batch's seed and the process alone, so a resumed run makes the same ones.
        """
        started = time.perf_counter()
        if batch.seed is not None:
            torch.manual_seed(batch.seed ^ self.global_rank)
        if self._step is None:
            self._step = GradientStep(
                self.optimizers(),
                self.parameters(),
                clip_norm=self.settings.clip_norm,
                batches=self.settings.accumulate,
                group=self.group,
                average=_average_unsharded,
                clip=clip_gradients,
            )
        loss, report = self.backward_batch(batch)
        norm = self._step()
        loss = gather_rows(loss[None], self.group).mean()  # of all rows; the report is that of this process's own
        if norm is not None:
            self.lr_schedulers().step()
        self._log_step(batch, loss, report, norm, time.perf_counter() - started)

    @property
    def pending(self) -> int:
        """Batches whose gradients wait for the next step; 0 right after one."""
        return self._step.pending if self._step else 0

    def backward_batch(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Gradients of the objective on the whole batch, by caching where it has more tokens than `cache_tokens`.

        With several processes each takes contents of no weight besides its own, see `stages.fillers`.
        """
        contents = batch.contents
        chunks = token_chunks([pieces.tokens for pieces in contents], self.settings.cache_tokens, padded=False)
        if self.group is not None:
            contents, chunks = self._fillers.fill(contents, chunks, self.group, self.device, every_chunk=self.sharded)
        if len(chunks) > 1:
            no_sync = partial(unreduced, self.embedder) if self.sharded else nullcontext
            return cached_backward(self._encode, contents, chunks, partial(self.loss_of, batch), no_sync=no_sync)
        loss, report = self.loss_of(batch, self._encode(contents))
        loss.backward()
        return loss.detach(), report

    def _encode(self, contents: Sequence[Pieces]) -> torch.Tensor:
        """Vectors [N, E] in float32 or wider; under bf16 the towers run in autocast, the loss never does."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            vectors_NE = self.embedder(contents, grouped=not self.sharded)
        return vectors_NE.to(torch.promote_types(vectors_NE.dtype, torch.float32))

    def loss_of(self, batch: Batch, vectors_NE: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Objective of a batch whose vectors lie in N as `Batch.contents` do, negatives ragged.

        What lies behind them has no weight.
        """
        size, counts = len(batch.query), [len(row) for row in batch.negatives]
        parts = [size, size, sum(counts), sum(map(len, batch.reverse_negatives))]
        query_BE, positive_BE, flat_ME, reverse_ME, _ = vectors_NE.split([*parts, len(vectors_NE) - sum(parts)])
        negative_BKE = mask_BK = ids_BK = None
        if self.has_negatives:  # a batch that happens to have none passes an empty [B, 0, E]
            negative_BKE, mask_BK = pad_negatives(flat_ME, counts)
            ids_BK = pad_negative_ids(batch.negative_ids, query_BE.device) if batch.negative_ids else None
        backward, described = [], {}
        if batch.reverse_negatives:
            vectors_BKE, reverse_mask_BK = pad_negatives(reverse_ME, [len(row) for row in batch.reverse_negatives])
            reverse_ids_BK = pad_negative_ids(batch.reverse_negative_ids, query_BE.device)
            backward = [vectors_BKE]
            described = {"reverse_negative_mask_BK": reverse_mask_BK, "reverse_negative_ids_BK": reverse_ids_BK}
        return self.objective(
            self._task_of(batch),
            query_BE,
            positive_BE,
            negative_BKE,
            *backward,
            temperature=self.temperature_of(batch),
            query_ids=batch.query_ids.to(query_BE.device),
            positive_ids=batch.positive_ids.to(query_BE.device),
            negative_mask_BK=mask_BK,
            negative_ids_BK=ids_BK,
            group=self.group,
            **described,
        )

    def _task_of(self, batch: Batch) -> str:
        """The task whose directions a batch takes; those of sub-batches must agree."""
        tasks = [part.task for part in batch.parts]
        if 0 < sum(task in self.objective.reversed for task in tasks) < len(tasks):
            raise ConfigError(
                f"a batch of {', '.join(sorted(set(tasks)))} goes both ways for some and one way for others: with "
                "data.sub_batches set objective.reverse=false, or give every task that is drawn the same reverse"
            )
        return tasks[0]

    def temperature_of(self, batch: Batch) -> torch.Tensor:
        """The temperature of a batch's task []; of sub-batches, or where modalities have theirs, of each pair [B]."""
        if isinstance(self.temperature, ModalityTemperature):
            sides = ([content.modalities for content in side] for side in (batch.query, batch.positive))
            return self.temperature.pairs(*sides)
        if len(batch.parts) == 1:
            return self.temperature(batch.task)
        return torch.cat([self.temperature(part.task).expand(part.rows) for part in batch.parts])

    def _log_step(
        self,
        batch: Batch,
        loss: torch.Tensor,
        report: dict[str, torch.Tensor],
        norm: torch.Tensor | None,
        spent: float,
    ) -> None:
        """Log one step; its time is the wait for its batch and the step itself, not what callbacks do after it."""
        seconds = batch.waited + spent
        values = {
            "loss": loss,
            f"loss/{batch.task}": loss,
            "temperature": self.temperature_of(batch).mean(),
            "tokens_per_second": batch.tokens / seconds,
            "samples_per_second": len(batch) / seconds,
            "wait_seconds": batch.waited,
            "wait_share": batch.waited / seconds,
            "skipped": len(batch.skipped),
            "learning_rate": self.lr_schedulers().get_last_lr()[0],
            **{f"epochs/{part.task}": part.epochs for part in batch.parts},
            **{f"{name}/{batch.task}": value for name, value in report.items()},
        }
        if self.temperature.learned:
            values |= {f"learned_temperature/{name or 'others'}": t for name, t in self.temperature.values().items()}
        if norm is not None:
            values |= {"gradient_norm": norm, f"gradient_norm/{batch.task}": norm}
        step = self.trainer.global_step - (norm is not None)  # the one this batch is part of
        if (step + 1) % self.trainer.log_every_n_steps == 0:
            self.log_now({f"train/{key}": float(value) for key, value in values.items()}, step)
        self.log("loss", float(loss), prog_bar=True, logger=False, batch_size=len(batch.query))

    def log_now(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log values for one step and no other: the step just taken where none is given.

        Lightning's own `log` says a value again at every later step: one task's loss beside the batches of all others.
        """
        step = max(0, self.trainer.global_step - 1) if step is None else step
        for logger in self.loggers:
            logger.log_metrics(dict(values), step=step)
            logger.save()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep only what trains: frozen weights come back from the model the stage started from."""
        frozen = {f"embedder.{name}" for name, p in self.embedder.named_parameters() if not p.requires_grad}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k not in frozen}
        # Gradients are not saved: batches that wait for their step are drawn again.
        for position in (value for value in checkpoint.values() if isinstance(value, dict) and "mixture" in value):
            position["step"] -= self.pending

    def _beside(self) -> list[nn.Parameter]:
        """What trains beside the embedder: temperatures."""
        return [p for module in (self.temperature, self.objective) for p in module.parameters() if p.requires_grad]

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Hold that the optimiser's groups are those it was saved with; ConfigError where they are not."""
        held = [group["params"] for state in checkpoint.get("optimizer_states", ()) for group in state["param_groups"]]
        own = [group["params"] for group in parameter_groups(self.embedder, self.settings, self._beside())]
        if held and [*map(len, held)] != [*map(len, own)]:
            raise ConfigError(
                "the checkpoint's optimiser groups its weights in another way, as earlier code did; start anew with "
                "resume=never"
            )

    def load_state_dict(self, state_dict: dict, strict: bool = True, assign: bool = False):
        """Load a checkpoint of this stage; anything missing beyond frozen weights, or unknown, raises."""
        missing, unexpected = super().load_state_dict(state_dict, strict=False, assign=assign)
        trained = {f"embedder.{name}" for name, p in self.embedder.named_parameters() if p.requires_grad}
        if lost := sorted(trained & set(missing)) or sorted(unexpected):
            raise ConfigError(f"checkpoint and model differ at {', '.join(lost[:5])}: was another configuration saved?")
        return missing, unexpected


def make_temperature(settings: StageSettings) -> Temperature:
    """The temperature that a stage's settings ask for: one for all, one a task, or one a modality."""
    if settings.modality_temperatures:
        return ModalityTemperature(
            settings.modality_temperatures, learned=settings.learn_temperature, initial=settings.temperature
        )
    return Temperature(settings.temperature, learned=settings.learn_temperature, tasks=settings.task_temperatures)


def _average_unsharded(parameters: Iterable[nn.Parameter], group: Group | None) -> None:
    """Over processes, of what no mesh shards: the backward pass has reduced that already."""
    average_gradients(unsharded(parameters), group)
