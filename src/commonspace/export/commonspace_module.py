"""The first and only module of a sentence-transformers folder that holds a commonspace model.

This file is carried into such a folder, and run from there where `trust_remote_code=True` allows it. It uses the
commonspace that is installed, else the one in the folder's `commonspace_code`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules.input_module import InputModule

CODE = "commonspace_code"  # what of the package the model needs
ON_LIMIT = "on_limit"
_ELSEWHERE = ("processor_kwargs", "tokenizer_kwargs", "config_kwargs")  # of transformers' models


class CommonspaceModule(InputModule):
    """Inputs of any modality and mixture to unit vectors, by the very code and numbers of the model folder."""

    save_in_root = True

    def __init__(self, embedder: Any) -> None:
        super().__init__()
        self.embedder = embedder
        self.tokenizer = embedder.processor.tokenizer.tokenizer
        self.source: Path | None = None
        numbers = embedder.processor.preprocessing
        self._limits = numbers.max_tokens, numbers.max_text_tokens  # the model's own

    @property
    def modalities(self) -> list[str]:
        """As far as the model has towers; "message" is what lets them mix in one input and in one batch."""
        towers = set(self.embedder.backbone.towers())
        seen = ["image", "video"] if "image" in towers else []
        return ["text", *seen, *(["audio"] if "audio" in towers else []), "message"]

    @property
    def max_seq_length(self) -> int:
        """Tokens of one content.

        Set, it lowers that limit, and that of one text with it; what a longer content meets is "on_limit"'s to say.
        ValueError for what is no number of tokens up to the model's own limit.
        """
        return self.embedder.processor.preprocessing.max_tokens

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        most, most_text = self._limits
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(
                f"max_seq_length={value!r}: this model takes 1 to {most} tokens; no setting takes it further"
            )
        numbers = {"max_tokens": value, "max_text_tokens": min(value, most_text)}
        self.embedder.processor = self.embedder.processor.with_numbers(**numbers)

    def get_embedding_dimension(self) -> int:
        return self.embedder.embedding_size

    def preprocess(self, inputs: list[Any], prompt: str | None = None, **options: Any) -> dict[str, Any]:
        """{"pieces": one for each input}; a prompt stands before inputs of text alone."""
        try:
            from commonspace.export.inputs import content_of
        except ImportError as error:
            raise ImportError(f"the commonspace in use has no export.inputs ({error}); install a newer one") from error
        if options.get("processing_kwargs"):
            raise ValueError("processing_kwargs have no effect on a commonspace model: its numbers are in its folder")
        processor = self.embedder.processor
        rate = processor.preprocessing.audio_rate
        return {"pieces": [processor(content_of(value, rate, prompt)) for value in inputs]}

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Adds "sentence_embedding", unit rows float32 [N, E]; gradients flow where they are asked for."""
        vectors_NE = self.embedder(features["pieces"]).float()
        features["sentence_embedding"] = torch.nn.functional.normalize(vectors_NE, dim=-1)
        return features

    def save(self, output_path: str, *args: Any, **options: Any) -> None:
        """The model folder's files and the code beside them into `output_path`; its other files stay.

        Limits are written as the model's own: a lower `max_seq_length` is of this object alone.
        """
        output, lowered = Path(output_path), self.max_seq_length
        with tempfile.TemporaryDirectory(dir=output) as temporary:
            self.max_seq_length = self._limits[0]
            try:
                self.embedder.save(Path(temporary) / "model")
            finally:
                self.max_seq_length = lowered
            for path in (Path(temporary) / "model").iterdir():
                if path.name != "README.md":  # the card that stands there says more
                    os.replace(path, output / path.name)
        _carry_code(self.source, output)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        model_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        **options: Any,
    ) -> CommonspaceModule:
        """`model_kwargs` takes "on_limit": "error" refuses a content beyond a limit, "truncate" embeds its beginning.

        And "towers", as in ("text", "image"), to read and hold those alone. ValueError for others, for another
        `backend` than torch, and for arguments of transformers' processors, tokenizers and configs: none has an effect.
        """
        asked = dict(model_kwargs or {})
        chosen = {name: asked.pop(name) for name in (ON_LIMIT, "towers") if name in asked}
        if asked:
            raise ValueError(f"model_kwargs {sorted(asked)} have no effect here; known are {ON_LIMIT} and towers")
        if backend != "torch":
            raise ValueError(f"backend={backend!r} has no effect here: a commonspace model runs in torch; leave it out")
        for name in _ELSEWHERE:
            if options.get(name):
                raise ValueError(f"{name} {sorted(options[name])} have no effect here: the numbers are in the folder")
        hub = {
            name: options[name] for name in ("token", "cache_folder", "revision", "local_files_only") if name in options
        }
        folder = Path(cls.load_dir_path(model_name_or_path, subfolder=subfolder, **hub))
        module = cls(_embedder_class(folder).load(folder, **chosen))
        module.source = folder
        return module


def _embedder_class(folder: Path) -> Any:
    """`Embedder` of the installed package, or of the folder's own copy."""
    try:
        from commonspace import Embedder
    except ImportError:
        sys.modules.pop("commonspace", None)  # a folder of that name without code in it
        sys.path.append(str(folder / CODE))
        try:
            from commonspace import Embedder
        except ImportError as error:
            raise ImportError(
                f"{folder}: the model's code needs {error.name or error}; install what requirements.txt there lists"
            ) from error
    return Embedder


def _carry_code(source: Path | None, output: Path) -> None:
    """The package's code and what it needs: as they lie beside the model, or as installed."""
    import shutil

    if source is not None and (source / CODE).is_dir():
        if source.resolve() != output.resolve():
            shutil.copytree(source / CODE, output / CODE, dirs_exist_ok=True)
            shutil.copy(source / "requirements.txt", output / "requirements.txt")
        return
    try:
        from commonspace.export.code import write_code
    except ImportError as error:
        raise ImportError(f"no code of commonspace to carry along ({error}); save beside {CODE}") from error
    write_code(output)
