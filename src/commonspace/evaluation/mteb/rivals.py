"""Other models in a local folder, or of mteb's registry, measured by the same code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonspace.errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_OURS = ("config.json", "preprocessing.json")
_ADAPTER = "adapter.json"


def is_ours(folder: Path) -> bool:
    """Whether a folder is one of our model folders, or of an adapter of ours."""
    return all((folder / name).is_file() for name in _OURS) or (folder / _ADAPTER).is_file()


def load_rival(embedder: str, prompts: Mapping[str, str] | None, device: str) -> Any:
    """An mteb encoder: of a folder by sentence-transformers' wrapper, else of the model mteb knows by that name.

    prompts  what stands before texts, by mteb's keys ("query", "document", a type or name of task); of a registered
             model mteb knows them itself. A folder without a `modules.json` is a transformer under mean pooling.
    Raises ConfigError where neither is there.
    """
    folder = Path(embedder)
    if not folder.is_dir():
        return _registered(embedder, prompts, device)
    if not any((folder / name).is_file() for name in ("modules.json", "config.json")):
        raise ConfigError(f"{folder}: holds neither modules.json nor config.json; give the folder of a model")
    from mteb.models import SentenceTransformerEncoderWrapper

    wrapped = SentenceTransformerEncoderWrapper(sentence_transformer(folder, device), model_prompts=dict(prompts or {}))
    wrapped.mteb_model_meta = wrapped.mteb_model_meta.model_copy(
        update={"name": f"local/{folder.name}", "revision": rival_fingerprint(folder, prompts)}
    )
    return wrapped


def sentence_transformer(folder: Path, device: str, **options: Any) -> SentenceTransformer:
    """A folder as sentence-transformers loads it; weights with a tokenizer.json alone, as packages' are, keep theirs.

    Without a tokenizer_config.json transformers goes by the kind of model, and takes any BERT's for WordPiece.
    """
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedTokenizerFast

    model = SentenceTransformer(str(folder), device=device, local_files_only=True, **options)
    named = any((folder / name).is_file() for name in ("tokenizer_config.json", "modules.json"))
    if not named and (folder / "tokenizer.json").is_file():
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        config = model[0].model.config
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(config.pad_token_id)
        tokenizer.model_max_length = config.max_position_embeddings
        model[0].processor = tokenizer
    return model


def rival_fingerprint(folder: Path, prompts: Mapping[str, str] | None = None) -> str:
    """A fingerprint of a folder and of what stands before its texts: results of another are never taken for these.

    Weights, tokenizer, pooling and layers all decide a vector: every file counts but hidden ones, marks of a download.
    """
    found = hashlib.blake2b(json.dumps(dict(prompts or {}), sort_keys=True).encode(), digest_size=8)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            found.update(f"{name.as_posix()}:{path.stat().st_size}:".encode())
            with path.open("rb") as file:
                while block := file.read(2**24):
                    found.update(block)
    return found.hexdigest()


def _registered(name: str, prompts: Mapping[str, str] | None, device: str) -> Any:
    import mteb

    if prompts:
        raise ConfigError("rival_prompts: are for models in a folder; mteb knows those of its own")
    try:
        meta = mteb.get_model_meta(name, fetch_from_hf=False)
    except KeyError as error:
        raise ConfigError(f"embedder={name}: no such folder, and mteb knows no model of that name") from error
    return meta.load_model(device=device)
