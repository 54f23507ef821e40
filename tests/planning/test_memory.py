"""Planned memory against what a real training step allocates on a CPU, as torch's own tracker sees it."""

from __future__ import annotations

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker

from commonspace import Content, Embedder
from commonspace.models.averaging import RunningAverage
from commonspace.models.checkpointing import checkpoint_activations
from commonspace.planning.flops import load_of
from commonspace.planning.memory import memory_of
from tests.models.tiny import picture, sound
from tests.planning.small import small_model

CONTENTS = {
    "text": Content(" ".join(["a red fox in the snow runs over the bird"] * 5)),
    "image": Content(picture(1, 400)),
    "sound": Content(sound(16.0)),
}
COUNTS = {"text": 96, "image": 12, "sound": 4}
WHOLE = ("omni", "embedding_gemma2_whole")


def measured(embedder: Embedder, batch: list, bf16: bool) -> int:
    """Peak bytes of the second step: AdamW's moments are there then."""
    optimiser = torch.optim.AdamW([p for p in embedder.parameters() if p.requires_grad], foreach=False)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = embedder(batch).float().square().sum()
        loss.backward()
        optimiser.step()

    step()
    tracker = MemTracker()
    tracker.track_external(embedder, optimiser)
    with tracker:
        step()
    (snapshot,) = tracker.get_tracker_snapshot("peak").values()
    return snapshot["Total"]


@pytest.mark.parametrize(
    "family, kind, bf16, checkpointed",
    [
        *((family, "text", False, False) for family in ("compact", "qwen3", "gemma3", *WHOLE)),
        *((family, kind, False, False) for family in WHOLE for kind in ("image", "sound")),
        *((family, "text", True, False) for family in ("compact", *WHOLE)),
        *((family, "text", False, True) for family in ("compact", *WHOLE)),
        ("omni", "image", False, True),
        *((family, "image", True, False) for family in WHOLE),
    ],
)
def test_memory_of_a_step(family: str, kind: str, bf16: bool, checkpointed: bool) -> None:
    embedder = small_model(family).train().requires_grad_(True)
    if checkpointed:
        if (ears := embedder.backbone.towers().get("audio")) is not None:
            ears.requires_grad_(False)  # Gemma's cannot be checkpointed; no case here runs it
        checkpoint_activations(embedder.backbone)
        embedder.requires_grad_(True)  # the tracker hooks every weight, and torch refuses hooks on frozen ones
    batch = [embedder.processor(CONTENTS[kind])] * COUNTS[kind]
    loads = [load_of(pieces, embedder) for pieces in batch]
    planned = memory_of(
        embedder, [loads], bf16=bf16, checkpointed=checkpointed, cached=False, strategy="auto", devices=1
    )
    found = measured(embedder, batch, bf16)
    assert 0.8 < planned.total / found < 1.2, (planned.total / found, planned, found)


def test_sharing_takes_from_every_device_what_it_shares() -> None:
    embedder = small_model("compact").requires_grad_(True)
    loads = [[load_of(embedder.processor(CONTENTS["text"]), embedder)] * 4]
    options = {"bf16": True, "checkpointed": False, "cached": False}
    whole, shared = (
        memory_of(embedder, loads, strategy=strategy, devices=8, **options) for strategy in ("ddp", "fsdp")
    )
    assert shared.weights == whole.weights / 8 and shared.optimiser == whole.optimiser / 8
    assert whole.buckets == whole.gradients and shared.buckets == 0
    assert shared.activations == whole.activations


def test_a_running_average_is_one_float32_copy_of_what_trains() -> None:
    embedder = small_model("compact").requires_grad_(True)
    loads = [[load_of(embedder.processor(CONTENTS["text"]), embedder)] * 4]
    options = {"bf16": True, "checkpointed": False, "cached": False, "devices": 4}
    for strategy, share in (("ddp", 1), ("fsdp", 4)):
        with_it, without = (
            memory_of(embedder, loads, strategy=strategy, averaged=averaged, **options) for averaged in (True, False)
        )
        average = RunningAverage(0.9)
        average.update(dict(embedder.named_parameters()))
        held = sum(tensor.numel() * tensor.element_size() for tensor in average.value().values())
        assert with_it.total - without.total == with_it.average == held / share
