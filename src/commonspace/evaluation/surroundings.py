"""The surroundings of an evaluation: what it reads, where it writes, and the parts that baselines share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from commonspace.data.features import attach_features
from commonspace.evaluation import near_duplicates
from commonspace.evaluation.frozen import FrozenFeatures
from commonspace.evaluation.suite import Suite, build_suite
from commonspace.models.build import ModelOptions, build_model
from commonspace.models.device import best_device
from commonspace.models.embedder import Embedder
from commonspace.models.precision import resolve_precision
from commonspace.processing.preprocessing import Preprocessing

console = Console()


@dataclass(frozen=True)
class Surroundings:
    """Where an evaluation reads and writes, and how.

    data      shards of one tier       cache  features and weights        output  result rows
    split     heldout or dev           tasks  shards to use, None for all
    features  take frozen towers' outputs from the cache
    weights   where pretrained parts come from: package, hub or a folder
    draws     resamples behind each interval
    limit     at most so many records a task, for quick looks; None for headlines
    model     options and preprocessing of the model the baselines share parts and pixels with (configs/model)
    """

    data: Path
    cache: Path
    output: Path
    split: str = "heldout"
    tasks: Sequence[str] | None = None
    features: bool = True
    weights: str = "package"
    draws: int = 1000
    limit: int | None = None
    model: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def suite(self) -> Suite:
        """The tasks of the split; which were left out for want of shards is said, not hidden."""
        suite = build_suite(self.data, self.split, self.tasks, self.limit)
        if suite.absent:
            console.print(f"{self.data}: has no {', '.join(suite.absent)}; their rows will be missing")
        dropped = {task.label: count for task in suite.tasks for count in task.dropped.values() if count}
        if dropped:
            console.print(f"queries that lie in their own pool, dropped: {dropped}")
        return suite

    @cached_property
    def frozen(self) -> FrozenFeatures:
        """The untrained pretrained parts, read once and only where something asks for them."""
        options, numbers = ModelOptions.of(self.model), Preprocessing.of(self.model)
        embedder = build_model(options, numbers, weights=self.weights, cache=self.cache).to(best_device())
        return FrozenFeatures(self.prepare(embedder), self.cache / "features")

    @cached_property
    def late_fusion_precision(self) -> str:
        """Of late fusion's training and the captions it reads: whichever this machine is faster in."""
        return resolve_precision("auto", "cpu")

    @cached_property
    def fusion_features(self) -> FrozenFeatures:
        """What late fusion reads: `frozen`, its captions encoded in `late_fusion_precision`."""
        return FrozenFeatures(self.frozen.embedder, self.frozen.folder, self.late_fusion_precision)

    @cached_property
    def near_duplicates(self) -> dict[int, str]:
        """Held-out contents training has all but seen; computed once a tier and frozen model.

        A model without a vision tower has no features of images; their hashes still count.
        """
        vision, size = ModelOptions.of(self.model).vision, Preprocessing.of(self.model).image_size
        return near_duplicates.mark(
            self.data,
            image_vectors=(lambda contents: self.frozen.vectors(contents, "image", progress=True)) if vision else None,
            features_name=f"{vision} at {size} pixels from {self.weights}",
            progress=True,
        )

    def prepare(self, model: Embedder) -> Embedder:
        """A model as evaluation uses it: long contents cut as in training, cached features where they are wanted."""
        model.processor = model.processor.renewed("truncate")
        if self.features:
            attach_features(model, self.cache)
        return model.eval()
