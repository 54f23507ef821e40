"""What a training stage needs to know, checked before anything loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from commonspace.errors import ConfigError

# The modalities each stage may train on: paper section 3.3 (audio, video and documents join in fine-tuning).
STAGE_MODALITIES = {
    "align": frozenset({"text", "image", "audio", "video"}),
    "pretrain": frozenset({"text", "code", "image"}),
    "finetune": frozenset({"text", "code", "image", "audio", "video", "document"}),
}
FREEZABLE = ("words", "text", "vision", "audio", "head")


@dataclass(frozen=True)
class StageSettings:
    """Hyper-parameters of one stage. Exactly one of `steps` and `token_budget` is set.

    token_budget        tokens (queries, positives and negatives, after processing) to train on in all
    learning_rate       of the pretrained transformer's last layer; each layer below takes `layer_decay` of the next
    new_learning_rate   of what starts untrained: head, connectors, marks
    tower_learning_rate of encoder stages that train (vision.trainable_stages and the like)
    warmup              share of the steps spent rising to the full rate; `schedule` is what follows
    settle              share of the steps in which only the untrained parts move, so that random connectors do not
                        push the pretrained transformer about
    clip_norm           largest gradient norm, applied once per step after all accumulation
    cache_tokens        most tokens encoded with a graph at a time; a larger batch goes by gradient caching
    gradient_checkpointing  layers of the transformer, and of towers that train, keep what enters them and compute the
                        rest again in the backward pass: the same gradients in less memory, one forward pass more
    dropout             of the text encoder's layers; in alignment of connectors and the texts' feed-forward layer
    layer_dropout       alignment only: of the texts' feed-forward layer; None: as `dropout`
    text_dropout        alignment only: of what the head sees of a text; None: as `dropout`. `task_text_dropout` sets
                        single tasks apart
    teacher             alignment only: folder of tables (stages/teacher.py); the tasks it has learn its scores, divided
                        by `teacher_temperature`, in place of the batch's labels
    freeze              parts that never train: "words" (the word embeddings), "text", "vision", "audio", "head"
    dev_every           share of the steps between two retrievals on dev; 0 scores at the end only
    dev_limit           dev records a task scored while training (soups take all of them)
    average             weights averaged within the run: "none", "ema" (with `average_decay`) or "tail" (the mean of
                        the last `average_share` of the steps)
    """

    name: str
    steps: int | None = None
    token_budget: int | None = None
    learning_rate: float = 5e-5
    new_learning_rate: float = 1e-3
    tower_learning_rate: float = 1e-4
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "cosine"
    settle: float = 0.0
    clip_norm: float = 1.0
    cache_tokens: int = 16384
    gradient_checkpointing: bool = False
    temperature: float = 0.02
    task_temperatures: Mapping[str, float] = field(default_factory=dict)
    learn_temperature: bool = False
    freeze: tuple[str, ...] = ("words",)
    dropout: float = 0.0
    layer_dropout: float | None = None
    text_dropout: float | None = None
    task_text_dropout: Mapping[str, float] = field(default_factory=dict)
    teacher: str | None = None
    teacher_temperature: float = 0.1
    average: str = "none"
    average_decay: float = 0.99
    average_share: float = 0.25
    dev_every: float = 0.25
    dev_limit: int = 96

    def __post_init__(self) -> None:
        object.__setattr__(self, "freeze", tuple(self.freeze))
        object.__setattr__(self, "task_temperatures", dict(self.task_temperatures))
        object.__setattr__(self, "task_text_dropout", dict(self.task_text_dropout))
        dropouts = (self.layer_dropout, self.text_dropout, *self.task_text_dropout.values())
        aligned = [p for p in dropouts if p is not None]
        checks = {
            f"stage.name must be one of {sorted(STAGE_MODALITIES)}": self.name in STAGE_MODALITIES,
            "set exactly one of stage.steps and stage.token_budget": (self.steps is None)
            != (self.token_budget is None),
            "stage.schedule must be cosine, linear or constant": self.schedule in ("cosine", "linear", "constant"),
            "stage.average must be none, ema or tail": self.average in ("none", "ema", "tail"),
            f"stage.freeze may hold {FREEZABLE}": set(self.freeze) <= set(FREEZABLE),
            "stage.temperature must be above 0": self.temperature > 0
            and all(v > 0 for v in self.task_temperatures.values()),
            "stage.warmup, stage.settle and stage.dev_every lie in 0..1": all(
                0 <= share <= 1 for share in (self.warmup, self.settle, self.dev_every)
            ),
            "stage align trains no pretrained part: leave stage.learning_rate and stage.tower_learning_rate at 0": (
                self.name != "align" or self.learning_rate == self.tower_learning_rate == 0
            ),
            "stage.layer_decay lies in (0, 1]": 0 < self.layer_decay <= 1,
            "stage.dropout, layer_dropout, text_dropout and task_text_dropout lie in [0, 1)": all(
                0 <= p < 1 for p in (self.dropout, *aligned)
            ),
            "stage.layer_dropout, text_dropout, task_text_dropout and teacher are read by align alone": self.name
            == "align"
            or not (aligned or self.teacher),
            "stage.gradient_checkpointing has no effect in align, whose gradient passes no layer": self.name != "align"
            or not self.gradient_checkpointing,
            "stage.teacher_temperature must be above 0": self.teacher_temperature > 0,
            "stage.teacher_temperature has no effect without stage.teacher": self.teacher is not None
            or self.teacher_temperature == type(self).teacher_temperature,
            "stage.cache_tokens and stage.dev_limit must be at least 1": min(self.cache_tokens, self.dev_limit) >= 1,
            "stage.layer_decay has no effect when the text encoder is frozen": self.layer_decay == 1
            or "text" not in self.freeze,
            "stage.settle has no effect when the text encoder is frozen": self.settle == 0 or "text" not in self.freeze,
        }
        for message, holds in checks.items():
            if not holds:
                raise ConfigError(message)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> StageSettings:
        """Settings from a hydra group; an unknown key raises with the known ones."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(config) - known):
            raise ConfigError(f"unknown stage option {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls(**config)
