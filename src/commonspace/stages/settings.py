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
SCHEDULES = ("constant", "linear", "cosine", "inverse_sqrt", "warmup_stable_decay")
MODALITIES = ("text", "image", "audio", "video")
FREEZABLE = ("words", "text", "vision", "audio", "head")


@dataclass(frozen=True)
class StageSettings:
    """Hyper-parameters of one stage. Exactly one of `steps` and `token_budget` is set.

    token_budget        tokens (queries, positives and negatives, after processing) to train on in all
    learning_rate       of the pretrained transformer's last layer; each layer below takes `layer_decay` of the next
    new_learning_rate   of what starts untrained: head, connectors, marks
    temperature_learning_rate  of learned temperatures' logarithms: 0.01 is a hundredth of them a step at most; None:
                        as new_learning_rate
    tower_learning_rate of towers as far as they train
    warmup              share of the steps spent rising to the full rate; `schedule`, one of SCHEDULES, is what follows
    schedule_floor      share of the full rate that is left at the end: cosine and warmup_stable_decay only
    schedule_decay      warmup_stable_decay only: share of the steps, the last ones, in which the rate falls
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
    teacher             alignment only: folder of tables (data/teacher.py); the tasks it has learn its scores, divided
                        by `teacher_temperature`, in place of the batch's labels
    vision_trainable_stages, audio_trainable  what trains of towers joined to a backbone: the image tower's last stages,
                        the audio tower whole; whole multimodal backbones train their towers unless `freeze` names them
    modality_temperatures  temperatures by modality (text, image, audio, video), others at `temperature`; a pair takes
                        the mean of its sides' (e5-omni)
    accumulate          batches whose gradients one optimiser step takes the mean of, whatever their tasks; clipping and
                        the schedule act once a step, `steps` counts steps and `token_budget` all their tokens
    freeze              parts that never train: "words" (the word embeddings), "text", "vision", "audio", "head"
    frozen_layers       first layers of the transformer that never train, nor anything through them: what stands
                        before them has its gradient by other ways alone
    dev_every           share of the steps between two retrievals on dev; 0 scores at the end only
    dev_limit           dev records a task scored while training (soups take all of them)
    dev_undrawn         score tasks of the mixture that are not drawn too, so that runs that differ in it compare
    dev_first           also score the model as it came, before the first step
    keep_best           the model folder gets the weights that scored best on dev within the run, not the last
    average             weights averaged within the run: "none", "ema" (with `average_decay`) or "tail" (the mean of
                        at most eight snapshots, spread evenly over the last `average_share` of the steps)
    """

    name: str
    steps: int | None = None
    token_budget: int | None = None
    learning_rate: float = 5e-5
    new_learning_rate: float = 1e-3
    temperature_learning_rate: float | None = None
    tower_learning_rate: float = 1e-4
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "cosine"
    schedule_floor: float = 0.0
    schedule_decay: float = 0.2
    settle: float = 0.0
    clip_norm: float = 1.0
    cache_tokens: int = 16384
    gradient_checkpointing: bool = False
    temperature: float = 0.02
    task_temperatures: Mapping[str, float] = field(default_factory=dict)
    modality_temperatures: Mapping[str, float] = field(default_factory=dict)
    accumulate: int = 1
    learn_temperature: bool = False
    vision_trainable_stages: int = 0
    audio_trainable: bool = False
    freeze: tuple[str, ...] = ("words",)
    frozen_layers: int = 0
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
    dev_undrawn: bool = False
    dev_first: bool = False
    keep_best: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "freeze", tuple(self.freeze))
        object.__setattr__(self, "task_temperatures", dict(self.task_temperatures))
        object.__setattr__(self, "modality_temperatures", dict(self.modality_temperatures))
        object.__setattr__(self, "task_text_dropout", dict(self.task_text_dropout))
        dropouts = (self.layer_dropout, self.text_dropout, *self.task_text_dropout.values())
        aligned = [p for p in dropouts if p is not None]
        checks = {
            f"stage.name must be one of {sorted(STAGE_MODALITIES)}": self.name in STAGE_MODALITIES,
            "set exactly one of stage.steps and stage.token_budget": (self.steps is None)
            != (self.token_budget is None),
            f"stage.schedule must be one of {', '.join(SCHEDULES)}": self.schedule in SCHEDULES,
            "stage.schedule_floor lies in [0, 1)": 0 <= self.schedule_floor < 1,
            f"stage.schedule_floor has no effect on schedule {self.schedule}": self.schedule_floor == 0
            or self.schedule in ("cosine", "warmup_stable_decay"),
            f"stage.schedule_decay has no effect on schedule {self.schedule}": self.schedule == "warmup_stable_decay"
            or self.schedule_decay == type(self).schedule_decay,
            "stage.settle, warmup and schedule_decay are more than all steps": self.schedule != "warmup_stable_decay"
            or (self.schedule_decay > 0 and self.settle + self.warmup + self.schedule_decay <= 1),
            "stage.keep_best chooses by dev scores within the run: set stage.dev_every above 0": not self.keep_best
            or self.dev_every > 0,
            "stage.keep_best and stage.average both choose the weights that are saved: set one": not self.keep_best
            or self.average == "none",
            "stage.average must be none, ema or tail": self.average in ("none", "ema", "tail"),
            f"stage.freeze may hold {FREEZABLE}": set(self.freeze) <= set(FREEZABLE),
            "stage.temperature must be above 0": self.temperature > 0
            and all(v > 0 for v in (*self.task_temperatures.values(), *self.modality_temperatures.values())),
            f"stage.modality_temperatures may name {MODALITIES}": set(self.modality_temperatures) <= set(MODALITIES),
            "stage.modality_temperatures and task_temperatures would both set a pair's; give one of the two": not (
                self.modality_temperatures and self.task_temperatures
            ),
            "stage.modality_temperatures: a teacher's scores take one temperature a task": not (
                self.modality_temperatures and self.teacher
            ),
            "stage.accumulate must be at least 1": self.accumulate >= 1,
            "stage.warmup, stage.settle and stage.dev_every lie in 0..1": all(
                0 <= share <= 1 for share in (self.warmup, self.settle, self.dev_every)
            ),
            "stage align trains no pretrained part: leave stage.learning_rate and stage.tower_learning_rate at 0": (
                self.name != "align" or self.learning_rate == self.tower_learning_rate == 0
            ),
            "stage align trains no tower: leave stage.vision_trainable_stages at 0 and audio_trainable at false": (
                self.name != "align" or not (self.vision_trainable_stages or self.audio_trainable)
            ),
            "stage.vision_trainable_stages must not be negative": self.vision_trainable_stages >= 0,
            "stage.vision_trainable_stages and audio_trainable have no effect on what stage.freeze names": not (
                (self.vision_trainable_stages and "vision" in self.freeze)
                or (self.audio_trainable and "audio" in self.freeze)
            ),
            "stage.frozen_layers must not be negative": self.frozen_layers >= 0,
            "stage.frozen_layers has no effect when the text encoder is frozen": self.frozen_layers == 0
            or "text" not in self.freeze,
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
            "stage.average_decay is of average=ema alone, average_share of tail": (
                self.average == "ema" or self.average_decay == type(self).average_decay
            )
            and (self.average == "tail" or self.average_share == type(self).average_share),
            "stage.clip_norm must be above 0": self.clip_norm > 0,
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
