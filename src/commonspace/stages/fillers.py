"""Contents of no weight: with several processes each runs every part of the model that any of them runs in a step.

One process may hold texts alone while another holds clips. Where weights are gathered and gradients reduced layer by
layer, a process that leaves a tower out leaves a collective out, and all wait for ever. So processes tell each other
which modalities their contents have, and whoever lacks one encodes a small content of it whose vector no loss reads:
its gradient is zero, its collectives are all there. A tower that no process needs is run by none, as in one process;
a zero gradient would let AdamW's momentum and decay move it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from commonspace.content import Audio, Content, Image
from commonspace.objectives.gather import Group, any_process, gather_counts
from commonspace.processing.pieces import Pieces
from commonspace.processing.processor import Processor

MODALITIES = ("text", "image", "audio")
_SIDE, _RATE, _SECONDS = 32, 16000, 0.5  # of a black picture, and of silence


def modalities(contents: Iterable[Pieces]) -> set[str]:
    """The modalities among contents; a video is images, and audio where it has sound."""
    return {piece.kind for pieces in contents for piece in pieces.pieces} & set(MODALITIES)


class Fillers:
    """Makes contents of no weight with a model's own processor; pixels and sound always, never cached features."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._made: dict[str, Pieces] = {}

    def of(self, modality: str) -> Pieces:
        """A short text, a black picture or half a second of silence."""
        if modality not in self._made:
            part = {
                "text": lambda: "a",
                "image": lambda: Image(np.zeros((_SIDE, _SIDE, 3), np.uint8), name="filler"),
                "audio": lambda: Audio(np.zeros(int(_RATE * _SECONDS), np.float32), rate=_RATE, name="filler"),
            }[modality]()
            self._made[modality] = self._processor.renewed("truncate")(Content(part))
        return self._made[modality]

    def fill(
        self,
        contents: Sequence[Pieces],
        chunks: Sequence[Sequence[int]],
        group: Group,
        device: torch.device | None = None,
        *,
        every_chunk: bool = False,
    ) -> tuple[list[Pieces], list[list[int]]]:
        """`contents` with fillers behind them, and `chunks` of both: together they have what any process's contents do.

        With `every_chunk` each chunk has, and all processes get the same number of chunks: what sharded weights ask
        for. A collective: every process of `group` calls it once a step.
        """
        contents, chunks = list(contents), [list(chunk) for chunk in chunks]
        wanted = _of_all(modalities(contents), group, device)
        if every_chunk:
            chunks += [[] for _ in range(max(gather_counts(len(chunks), group, device)) - len(chunks))]
        for chunk in chunks if every_chunk else chunks[-1:]:
            present = modalities(contents[i] for i in chunk) if every_chunk else modalities(contents)
            for modality in (name for name in wanted if name not in present):
                chunk.append(len(contents))
                contents.append(self.of(modality))
        return contents, chunks


def _of_all(own: set[str], group: Group, device: torch.device | None) -> list[str]:
    has_M = torch.tensor([name in own for name in MODALITIES], device=device)
    return [name for name, found in zip(MODALITIES, any_process(has_M, group).tolist(), strict=True) if found]
