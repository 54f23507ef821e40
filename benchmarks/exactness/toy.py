"""A model small enough for every check, with the parts that go wrong: dropout, adapters, checkpointing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

VOCABULARY, WIDTH, SIZE, LENGTH = 50, 12, 8, 6


class Encoder(nn.Module):
    """Token ids int64 [B, L] -> vectors [B, E], float64."""

    def __init__(self, dropout: float = 0.0, checkpointing: bool = False, lora: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.first, self.second = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(WIDTH, SIZE)
        self.checkpointing = checkpointing
        if lora:
            from peft import LoraConfig, inject_adapter_in_model

            config = LoraConfig(r=2, target_modules=["first", "second"], lora_dropout=dropout, init_lora_weights=False)
            inject_adapter_in_model(config, self)
        self.double()

    def block(self, hidden_BLD: Tensor) -> Tensor:
        return hidden_BLD + self.dropout(self.second(torch.relu(self.first(hidden_BLD))))

    def forward(self, ids_BL: Tensor) -> Tensor:
        hidden_BLD = self.dropout(self.embedding(ids_BL))
        if self.checkpointing:
            hidden_BLD = checkpoint(self.block, hidden_BLD, use_reentrant=False)
        else:
            hidden_BLD = self.block(hidden_BLD)
        return self.head(hidden_BLD.mean(1))


def make_encoder(flags: frozenset[str]) -> Encoder:
    """The same weights whenever it is called with the same flags."""
    torch.manual_seed(0)
    return Encoder(0.2 if "dropout" in flags else 0.0, "checkpointing" in flags, "lora" in flags)


def contents(roles: int, pairs: int, seed: int = 1) -> Tensor:
    """Token ids int64 [roles, pairs, L]: queries, positives, then hard negatives."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (roles, pairs, LENGTH), generator=generator)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Gradients of what trains, by name; zero where none came."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in named}
