"""What late fusion is tuned over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """One try of the baseline. `decay` is of the exponential weight average; `dropout` acts on the frozen features;
    `canonical` is the probability of a record's first variant, as in the model's own training.

    `steps` rather than epochs: a family of few rows sees them more often.
    """

    learning_rate: float = 3e-3
    temperature: float = 0.05
    hidden: int = 1536
    dropout: float = 0.3
    steps: int = 384
    batch_size: int = 1024
    weight_decay: float = 0.05
    embedding_size: int = 384
    decay: float = 0.98
    canonical: float = 0.9


# Tries in the order they are made: the best guesses first, so that few tries are not wasted. Our own form had as many
# designs on dev (docs/log.md).
GRID: tuple[Settings, ...] = (
    Settings(),
    Settings(hidden=768),
    Settings(dropout=0.4),
    Settings(temperature=0.03),
    Settings(canonical=0.75),
    Settings(learning_rate=5e-3, batch_size=512),
    Settings(hidden=3072),  # twice the time, see docs/log.md
    Settings(hidden=768, steps=128),
    Settings(temperature=0.07),
    Settings(learning_rate=1.5e-3),
    Settings(dropout=0.5),
    Settings(dropout=0.2),
    Settings(weight_decay=0.2),
    Settings(decay=0.9),
    Settings(canonical=1.0),
    Settings(hidden=3072, dropout=0.4),
    Settings(steps=768),
    Settings(steps=768, dropout=0.5),
)
# In another order, for few steps suit the MLP of both parts and many its sum; without `canonical`, for these records
# have one variant.
COMPOSED_GRID: tuple[Settings, ...] = (
    *(GRID[7], GRID[1], GRID[0]),
    *(settings for place, settings in enumerate(GRID) if place not in (0, 1, 7) and settings.canonical == 0.9),
    Settings(hidden=3072, dropout=0.2),
    Settings(steps=768, dropout=0.2),
)
SMALL_GRID: tuple[Settings, ...] = (  # for families of few rows
    Settings(hidden=768, steps=128, batch_size=256),
    Settings(hidden=768, batch_size=256),
)
