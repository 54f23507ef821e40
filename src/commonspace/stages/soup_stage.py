"""The stage of soups: it scores blends of ingredients on dev, and learns the shares of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from commonspace.models.blend import Blend
from commonspace.models.embedder import Embedder
from commonspace.models.ingredients import Ingredient
from commonspace.models.stored import SomeTensors
from commonspace.stages.dev import DevRetrieval
from commonspace.stages.dev_loss import DevLoss
from commonspace.stages.learned_shares import LearnedShares


class SoupStage(pl.LightningModule):
    """Scores blends of ingredients by dev retrieval, and learns the shares of one; the model's own weights never train.

    `trainer.validate(stage)` scores the blend that was `put` last, and logs it as a step of its own: dev/<task>,
    dev/loss, and soup/<ingredient> its share. `trainer.fit(stage)` trains `shares` on the dev loss. Blends stream over
    the ingredients' files, so memory holds one model and one tensor however many ingredients there are, and while
    shares are learned the gradients of the tensors in which they differ.

    Args:
        embedder: the first ingredient's; its tensors become those of every blend.
        names: the tensors in which ingredients differ (`differing`); nothing else is touched.
        base: what paths along a sphere go around.
    """

    automatic_optimization = False

    def __init__(
        self,
        embedder: Embedder,
        ingredients: Sequence[Ingredient],
        names: Sequence[str],
        dev: DevRetrieval,
        loss: DevLoss,
        batch_tokens: int,
        *,
        base: Mapping[str, Tensor] | None = None,
        learning_rate: float = 0.1,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.embedder, self.ingredients, self.names = embedder.requires_grad_(False), list(ingredients), list(names)
        self.dev, self.loss, self.batch_tokens, self.bf16 = dev, loss, batch_tokens, bf16
        self.base = base
        self.learning_rate = learning_rate
        self.shares: LearnedShares | None = None
        self.blend = Blend((0,))
        self.scores: dict[str, float] = {}
        self.losses: dict[str, float] = {}
        self.scored = 0
        self.curve: list[float] = []  # the dev loss of every step of learning

    @torch.no_grad()
    def put(self, blend: Blend) -> None:
        """Make the embedder that blend of the ingredients."""
        self.blend, held = blend, self.embedder.state_dict()
        for name, tensor in self.tensors(blend, self.names):
            held[name].copy_(tensor)

    def tensors(self, blend: Blend, names: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of a blend, one at a time."""
        members = [self.ingredients[member] for member in blend.members]
        labels = [str(one.folder) for one in members]
        base = None if self.base is None else SomeTensors(self.base, names)
        return blend.tensors([SomeTensors(one.tensors, names) for one in members], labels, base)

    def validation_step(self, batch: Any, index: int) -> None:
        """One pass over dev; the whole suite is one batch, because a pool is ranked as a whole."""
        vectors_NE = self.dev.vectors(self.embedder, batch_tokens=self.batch_tokens, bf16=self.bf16)
        self.scores = self.dev.scores_of(vectors_NE)
        self.losses = self.loss.of_vectors(vectors_NE.float())
        values = {f"dev/{name}": value for name, value in self.scores.items()} | {"dev/loss": self.losses["mean"]}
        # Lightning takes a value called step for the step; without training every candidate would be step 0.
        self.log_dict({**values, **self._shares(), "step": float(self.scored)}, batch_size=1)
        self.scored += 1

    def learn(self, by_layer: bool) -> LearnedShares:
        """Get ready to train shares of all ingredients, equal at the start."""
        self.shares = LearnedShares(self.names, len(self.ingredients), by_layer)
        for name, parameter in self.embedder.named_parameters():
            parameter.requires_grad_(name in self.names)
        return self.shares

    def training_step(self, batch: Any, index: int) -> None:
        """One step of the shares on one batch of dev pairs; the embedder holds the soup as it was before the step."""
        assert self.shares is not None, "`learn` comes before training"
        optimiser = self.optimizers()
        self.embedder.eval()
        self.put(self.shares.blend())
        loss = self.loss.backward(self.embedder, self.global_step, batch_tokens=self.batch_tokens, bf16=self.bf16)
        gradients = {name: p.grad for name, p in self.embedder.named_parameters() if p.grad is not None}
        self.shares.backward(gradients, [one.tensors for one in self.ingredients])
        self.embedder.zero_grad()
        self.curve.append(loss)
        step = self.global_step
        optimiser.step()
        optimiser.zero_grad()
        for logger in self.loggers:
            logger.log_metrics({"train/loss": loss, **self._shares()}, step=step)

    def _shares(self) -> dict[str, float]:
        """soup/<ingredient>: its share of the blend; of one by layers the mean over them."""
        told = self.blend.to_json()
        rows = list(told.get("by_layer", {"": told["shares"]}).values())
        mean = [sum(row[place] for row in rows) / len(rows) for place in range(len(self.blend.members))]
        by_number = dict(zip(self.blend.members, mean, strict=True))
        return {f"soup/{one.label}": by_number.get(number, 0.0) for number, one in enumerate(self.ingredients)}

    def train_dataloader(self) -> DataLoader:
        """One item a step: which dev pairs it takes follows from the step's number."""
        return DataLoader(range(len(self.loss.batches)))

    def val_dataloader(self) -> DataLoader:
        return DataLoader([0])

    def configure_optimizers(self) -> Any:
        """Adam on the shares alone; nothing where nothing is learned."""
        return None if self.shares is None else torch.optim.Adam(self.shares.parameters(), lr=self.learning_rate)
