"""The native embedder: contents of any modality and any interleaving to one unit vector each.

E = head(mean over all tokens of backbone(tokens)), then L2: paper section 3.1, equation 1.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.progress import track
from torch import nn

from commonspace.content import Content
from commonspace.errors import ConfigError
from commonspace.models.backbones.base import Backbone
from commonspace.models.feed_forward import FeedForward
from commonspace.models.pooling import input_and_last_pool, pool, pooled_width, summary_pool
from commonspace.models.precision import refuse_float16
from commonspace.processing.pieces import Pieces
from commonspace.processing.processor import OnLimit, Processor

CHUNK = 256  # contents decoded at once
_CPU_TOKENS = 1024  # of a batch on a CPU: its caches hold what a layer makes of so many
_MODE = threading.Lock()  # held while a model changes between training and evaluation; no attribute: models are copied
_OPEN = 0.25  # of the gate at the start: an aligned connector's tokens leave an untrained transformer as noise


class Embedder(nn.Module):
    """One backbone, one pooling, one linear head; Matryoshka sizes are prefixes of the output.

    `embedding_size` is E; `matryoshka_sizes` are the prefix lengths trained for, the last one E itself. `text_hidden`
    above 0 puts a feed-forward layer of that width before the head, which contents pass as far as they are text:
    connectors bring media to the head as they like, and a frozen text encoder has nothing of the kind.
    """

    def __init__(
        self,
        backbone: Backbone,
        processor: Processor,
        *,
        embedding_size: int,
        matryoshka_sizes: Sequence[int],
        pooling: str = "mean",
        text_hidden: int = 0,
    ) -> None:
        super().__init__()
        if list(matryoshka_sizes) != sorted(set(matryoshka_sizes)) or matryoshka_sizes[-1] != embedding_size:
            raise ConfigError(
                f"matryoshka_sizes {list(matryoshka_sizes)} must rise and end with embedding_size {embedding_size}"
            )
        if pooling == "input_and_last" and backbone.input_width != backbone.width:
            raise ConfigError(
                f"pooling=input_and_last sets what enters beside what leaves; here they are {backbone.input_width} and "
                f"{backbone.width} wide: use mean or last"
            )
        if pooling == "input_and_last" and not backbone.has_summaries:
            raise ConfigError(
                f"pooling=input_and_last reads what connectors make, and {backbone.name} has none; use mean or last"
            )
        self.backbone = backbone
        self.processor = processor
        self.pooling = pooling
        pooled = pooled_width(pooling, backbone.width)
        self.register_buffer("pooled_mean_P", torch.zeros(pooled))
        self.register_buffer("pooled_scale_P", torch.ones(pooled))
        self.media_gate = nn.Parameter(torch.tensor(_OPEN)) if pooling == "input_and_last" else None
        self.text_layer = FeedForward(pooled, text_hidden) if text_hidden else None
        self.head = nn.Linear(pooled, embedding_size)
        self.embedding_size = embedding_size
        self.matryoshka_sizes = tuple(matryoshka_sizes)
        self.weights: str | None = None  # the name that the backbone's were asked for by, None where nobody knows
        self._reading = 0  # calls of `embed_pieces` in progress
        self._returns_to_training = False

    @classmethod
    def load(cls, folder: str | Path, towers: Collection[str] | None = None, on_limit: OnLimit = "error") -> Embedder:
        """The model of a model folder, in evaluation mode; `towers=("text", "image")` reads and holds only those.

        A folder that holds an adapter alone brings the base it names (see `commonspace.models.adapter_folder`). A
        content beyond a limit is a ContentError, or with `on_limit="truncate"` its beginning is embedded.
        """
        from commonspace.models.adapter_folder import is_adapter, load_adapted
        from commonspace.models.folder import load_model

        embedder = (load_adapted if is_adapter(Path(folder)) else load_model)(Path(folder), towers)
        embedder.processor = embedder.processor.renewed(on_limit)
        return embedder

    def save(self, folder: str | Path, card: str = "", training: Mapping[str, Any] | None = None) -> None:
        """Write a model folder (see `commonspace.models.folder`), whole or not at all."""
        from commonspace.models.folder import save_model

        save_model(self, Path(folder), card, training)

    def set_lengths(
        self,
        positions: str = "limit",
        max_positions: int | None = None,
        merge_beyond: int | None = None,
        window: int | None = None,
        global_every: int | None = None,
        **limits: float,
    ) -> None:
        """What contents beyond the backbone's own positions meet from now on, see its `set_lengths`.

        `limits` are numbers of the preprocessing that go with it, as `max_tokens=8192, max_images=64`. A folder saved
        afterwards has both. Raises ConfigError where more tokens are let in than the backbone then takes.
        """
        self.backbone.set_lengths(positions, max_positions, merge_beyond, window, global_every)
        processor = self.processor.with_numbers(**limits)
        most = self.backbone.max_tokens
        if processor.preprocessing.max_tokens > most and merge_beyond is None:
            raise ConfigError(
                f"model.max_tokens={processor.preprocessing.max_tokens}: the backbone takes {most} tokens; lower it, "
                "or let contents go beyond by positions and max_positions, or by merge_beyond"
            )
        self.processor = processor

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, batch: Sequence[Pieces], *, grouped: bool = True) -> torch.Tensor:
        """Embeddings [N, E] of processed contents, not yet normalised.

        Contents of similar length run together (`length_groups`), so that padding costs little in mixed batches. With
        `grouped=False` all run at once: where weights lie on several processes each call of a layer is one of theirs.
        """
        lengths = [pieces.tokens for pieces in batch]
        order, outputs = [], []
        for group in length_groups(lengths) if grouped else [list(range(len(batch)))]:
            order.extend(group)
            outputs.append(self._vectors([batch[i] for i in group]))
        return torch.cat(outputs)[torch.argsort(torch.tensor(order)).to(self.device)]

    def pool(self, batch: Sequence[Pieces]) -> torch.Tensor:
        """Pooled backbone states [N, P] before the head.

        At step zero the last D numbers of a text alone are the text encoder's own vector. ConfigError in float16.
        """
        refuse_float16(self.head.weight)
        states = self.backbone(batch)
        if self.media_gate is None:
            return pool(self.pooling, states.last_BLD, states.mask_BL)
        return input_and_last_pool(
            summary_pool(*states.summaries),
            states.last_BLD,
            states.kind_BL,
            gate=self.media_gate,
            centre_D=self.pooled_mean_P[self.backbone.width :],
        )

    def project(self, pooled_NP: torch.Tensor, text_share_N: Sequence[float] | torch.Tensor) -> torch.Tensor:
        """Embeddings [N, E] of pooled states: the linear head on them, centred and scaled by constants.

        `text_share_N` is each content's share of text in 0..1, and what the text layer adds counts by it: a manual page
        stays near its title. The constants (see `standardise`) are part of the linear map; kept apart, they leave the
        head well conditioned.
        """
        standard_NP = (pooled_NP - self.pooled_mean_P) * self.pooled_scale_P
        standard_NP = standard_NP.to(self.head.weight.dtype)  # pooling is float32 even of bfloat16 weights
        if self.text_layer is not None:
            share_N1 = torch.as_tensor(text_share_N, dtype=standard_NP.dtype, device=standard_NP.device)[:, None]
            rows = share_N1[:, 0].nonzero()[:, 0]
            # Also without a text: on several processes every layer has a gradient in every step, be it zero.
            passed = self.text_layer(standard_NP[rows]).to(standard_NP.dtype)
            standard_NP = standard_NP.index_copy(0, rows, torch.lerp(standard_NP[rows], passed, share_N1[rows]))
        return self.head(standard_NP)

    def _vectors(self, batch: Sequence[Pieces]) -> torch.Tensor:
        return self.project(self.pool(batch), [pieces.text_share for pieces in batch])

    def check_dim(self, dim: int | None) -> None:
        """ConfigError for a size that this model's vectors cannot be cut to; None is the full size."""
        if dim is not None and not 0 < dim <= self.embedding_size:
            raise ConfigError(f"dim={dim} is outside 1..{self.embedding_size}")

    @torch.no_grad()
    def embed_pieces(
        self, batch: Sequence[Pieces], *, batch_tokens: int = 8192, normalize: bool = True
    ) -> torch.Tensor:
        """Unit vectors float32 [N, E] of processed contents, at most `batch_tokens` padded tokens at a time.

        `normalize=False` leaves their length as the head gives it.
        """
        with self._evaluating():
            out_NE = torch.empty(len(batch), self.embedding_size)
            for rows in self.batches(batch, batch_tokens):
                vectors_BE = self._vectors([batch[i] for i in rows]).float()
                out_NE[rows] = (nn.functional.normalize(vectors_BE, dim=-1) if normalize else vectors_BE).cpu()
            return out_NE

    def batches(self, batch: Sequence[Pieces], batch_tokens: int) -> Iterator[list[int]]:
        """Indices of contents in the batches that they are embedded in: `token_batches`, small ones on a CPU."""
        most = min(batch_tokens, _CPU_TOKENS) if self.device.type == "cpu" else batch_tokens
        return token_batches([pieces.tokens for pieces in batch], most)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode while any thread is inside: the first to enter sets it, the last to leave restores."""
        with _MODE:
            if not self._reading:
                self._returns_to_training = self.training
                self.eval()
            self._reading += 1
        try:
            yield
        finally:
            with _MODE:
                self._reading -= 1
                if not self._reading and self._returns_to_training:
                    self.train()

    def embed(
        self,
        contents: Iterable[Content | str],
        *,
        dim: int | None = None,
        task: str | None = None,
        role: str | None = None,
        batch_tokens: int = 8192,
        normalize: bool = True,
        progress: bool = False,
        output: Literal["numpy", "torch"] = "numpy",
    ) -> np.ndarray | torch.Tensor:
        """Unit vectors float32 [N, dim], in the order of `contents`; `output` is "numpy" or "torch", on the CPU.

        `dim` cuts to a Matryoshka prefix and renormalises. `task` and `role` ("query" or "document") choose the
        published prefix for text-only contents; media take none. `normalize=False` leaves lengths as the head gives
        them. The same call gives the same vectors, also from several threads at once on one model.
        Raises ContentError for what cannot be read, ConfigError for an option outside its range.
        """
        self.check_dim(dim)
        if output not in ("numpy", "torch"):
            raise ConfigError(f"output={output!r}: use 'numpy' or 'torch'")
        contents = [content if isinstance(content, Content) else Content(content) for content in contents]
        chunks = [contents[i : i + CHUNK] for i in range(0, len(contents), CHUNK)]
        vectors = []
        for chunk in track(chunks, description="embedding", disable=not progress):
            pieces = [self.processor(content, task=task, role=role) for content in chunk]
            vectors.append(self.embed_pieces(pieces, batch_tokens=batch_tokens, normalize=normalize))
        out_NE = torch.cat(vectors) if vectors else torch.empty(0, self.embedding_size)
        if dim is not None:
            out_NE = truncate(out_NE, dim) if normalize else out_NE[:, :dim].contiguous()
        return out_NE.numpy() if output == "numpy" else out_NE


def truncate(vectors_NE: torch.Tensor, dim: int) -> torch.Tensor:
    """The Matryoshka prefix of each vector, renormalised: [N, dim]."""
    return nn.functional.normalize(vectors_NE[:, :dim], dim=-1)


def token_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, each at most `batch_tokens` tokens after padding (or one long content)."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch and lengths[index] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def length_groups(lengths: Sequence[int], *, waste: float = 0.15, smallest: int = 16) -> list[list[int]]:
    """Indices in groups of similar length: a group closes when its padding would pass `waste` of its tokens.

    Groups keep at least `smallest` members, below which the fixed cost of a forward pass outweighs padding.
    """
    groups: list[list[int]] = [[]]
    tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        group = groups[-1]
        padded = lengths[index] * (len(group) + 1)
        if len(group) >= smallest and padded - (tokens + lengths[index]) > waste * padded:
            groups.append([])
            tokens = 0
        groups[-1].append(index)
        tokens += lengths[index]
    return [group for group in groups if group]
