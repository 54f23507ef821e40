"""A model folder as mteb's encoder, for every subset of modalities that the folder holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from commonspace.content import Content
from commonspace.data.features import attach_features
from commonspace.errors import ConfigError
from commonspace.evaluation.mteb.inputs import Row, rows_of
from commonspace.evaluation.mteb.prompts import Prompt, check_policy, is_of_text, prompt_of
from commonspace.models.device import best_device
from commonspace.models.embedder import CHUNK, Embedder
from commonspace.models.folder import folder_fingerprint
from commonspace.models.precision import InPrecision, resolve_precision
from commonspace.prompts import prefix

if TYPE_CHECKING:
    import torch
    from mteb.models import ModelMeta

ORGANISATION = "commonspace"


class MtebModel:
    """Implements mteb's `EncoderProtocol` by `Embedder.embed`: row by row the vectors are the same.

    prefixes, sides  see `commonspace.evaluation.mteb.prompts`
    dim              a Matryoshka size, None for all of the vector
    precision        32-true, bf16-mixed, or auto: whichever this machine is faster in
    mteb's `batch_size` counts rows and has no effect here: batches hold at most `batch_tokens` tokens. What is beyond
    the model's limits is cut, as in training.
    """

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        embedder: Embedder,
        device: str | None = None,
        prefixes: str = "type",
        sides: str = "query",
        dim: int | None = None,
        batch_tokens: int = 8192,
        precision: str = "32-true",
    ) -> None:
        check_policy(prefixes, sides)
        embedder.check_dim(dim)
        self.embedder = embedder.to(device or best_device())
        self.prefixes, self.sides, self.dim, self.batch_tokens = prefixes, sides, dim, batch_tokens
        precision = resolve_precision(precision, self.embedder.device.type)
        self._embeds = InPrecision(self.embedder, precision)
        self.mteb_model_meta = describe(
            model_name, revision, embedder, prefixes=prefixes, sides=sides, dim=dim, precision=precision
        )

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Vectors float32 [rows, dim] of a `DataLoader[BatchedInput]`, unit rows.

        Raises ConfigError for a `precision` of the vectors, which mteb would hand on: mteb's own CompressionWrapper
        makes those.
        """
        if kwargs.get("precision") not in (None, "float32"):
            raise ConfigError(
                f"precision={kwargs['precision']!r}: vectors are float32; wrap the model to compress them"
            )
        side = getattr(prompt_type, "value", prompt_type)
        prompt = prompt_of(task_metadata, side, self.prefixes, self.sides, self._known())
        embedded = [self._embed(chunk, prompt, is_of_text(task_metadata)) for chunk in _chunks(rows_of(inputs), CHUNK)]
        return np.concatenate(embedded) if embedded else np.zeros((0, self.dim or self.embedder.embedding_size))

    def _known(self) -> Sequence[str]:
        return tuple(self.embedder.processor.preprocessing.prefixes)

    def _embed(self, rows: Sequence[Row], prompt: Prompt, is_text: bool) -> np.ndarray:
        """Vectors of some rows, equal contents embedded once; a document's title takes the place of "none"."""
        found: dict[tuple[Prompt, int], np.ndarray] = {}
        asked = [self._asked(row, prompt if is_text else (None, None)) for row in rows]
        keys = [(own, content.digest()) for own, content in asked]
        for task, role in sorted({own for own, _ in asked}, key=str):
            some = {key: content for key, (own, content) in zip(keys, asked, strict=True) if own == (task, role)}
            vectors_NE = self._embeds.embed(
                list(some.values()), dim=self.dim, task=task, role=role, batch_tokens=self.batch_tokens
            )
            found.update(zip(some, vectors_NE, strict=True))
        return np.stack([found[key] for key in keys])

    def _asked(self, row: Row, prompt: Prompt) -> tuple[Prompt, Content]:
        """The prefix of a row and its content; a titled document brings its prefix with it."""
        if prompt[1] != "document" or not row.title or row.body is None:
            return prompt, row.content
        start = prefix(*prompt, self.embedder.processor.preprocessing.prefixes)
        return (None, None), Content(start.replace("none", row.title, 1) + row.body)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosines [n1, n2]."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """Cosines [n] of rows in pairs."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)


def _chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk


def modalities_of(embedder: Embedder) -> list[str]:
    """What a model reads, by mteb's names: text, and what its towers let it see and hear."""
    towers = embedder.backbone.towers()
    return ["text", *(["image", "video"] if "image" in towers else []), *(["audio"] if "audio" in towers else [])]


def describe(name: str, revision: str | None, embedder: Embedder, **options: Any) -> ModelMeta:
    """mteb's metadata of a model; options that are not the usual ones make an experiment of their own.

    mteb keeps the results of an experiment apart from those of the model, in a folder named by its options.
    """
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

    usual = {"prefixes": "type", "sides": "query", "dim": None, "precision": "32-true"}
    experiment = {key: value for key, value in options.items() if value != usual[key]}
    tensors = list(embedder.state_dict().values())
    facts = {
        "name": name if "/" in name else f"{ORGANISATION}/{name}",
        "revision": revision,
        "modalities": modalities_of(embedder),
        "n_parameters": sum(parameter.numel() for parameter in embedder.parameters()),
        "memory_usage_mb": round(sum(one.numel() * one.element_size() for one in tensors) / 2**20, 1),
        "max_tokens": embedder.processor.preprocessing.max_tokens,
        "embed_dim": list(embedder.matryoshka_sizes),
        "open_weights": True,
        "framework": ["PyTorch", "safetensors"],
        "similarity_fn_name": ScoringFunction.COSINE,
        "use_instructions": True,
        "experiment_kwargs": experiment or None,
    }
    return ModelMeta.create_empty(facts)


def load(
    model_name: str,
    revision: str | None = None,
    *,
    folder: str | Path,
    device: str | None = None,
    cache: str | Path | None = None,
    towers: Sequence[str] | None = None,
    **options: Any,
) -> MtebModel:
    """The model of a folder as mteb calls it, named `model_name` in its results.

    revision  None takes the fingerprint of what decides a vector: results of other weights are never taken for these
    cache     where frozen towers' outputs lie (`commonspace data features`); None decodes every medium
    towers    as of `Embedder.load`
    """
    embedder = Embedder.load(folder, towers, on_limit="truncate")
    if cache is not None and embedder.backbone.towers():
        attach_features(embedder, Path(cache))
    return MtebModel(
        model_name, revision or folder_fingerprint(Path(folder))[:16], embedder=embedder, device=device, **options
    )


def register(folder: str | Path, name: str | None = None, **options: Any) -> ModelMeta:
    """Make a folder known to mteb in this process: `mteb.get_model("commonspace/NAME")` loads it from there on.

    `options` are those of `load`. Returns the metadata. mteb asks for its own extras of audio and video before it loads
    a model that has them, though ours does not call them.
    """
    from mteb.models.model_implementations import MODEL_REGISTRY

    folder = Path(folder)
    shown = load(name or folder.name, folder=folder, **options).mteb_model_meta
    meta = shown.model_copy(update={"loader": partial(load, folder=str(folder), **options)})
    MODEL_REGISTRY[meta.name] = meta
    return meta
