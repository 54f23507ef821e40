"""What trains of a model, set as a stage sets it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from commonspace.models.embedder import Embedder
from commonspace.stages.optimiser import freeze, unfreeze_towers
from commonspace.stages.start import adapt


def prepare(embedder: Embedder, plain: Mapping[str, Any]) -> None:
    """Let train what a composed `train` config trains: adapters, towers, whatever is not frozen."""
    stage = plain["stage"]
    adapt(embedder, plain["model"]["lora"])
    unfreeze_towers(embedder, stage["vision_trainable_stages"], stage["audio_trainable"])
    freeze(embedder, stage["freeze"], stage["frozen_layers"])
