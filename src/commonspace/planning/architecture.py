"""The model of a config by its shapes alone: no weights are read or made where they would fill gigabytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from omegaconf import OmegaConf
from tokenizers import Tokenizer, models, pre_tokenizers

from commonspace.errors import ConfigError
from commonspace.models.backbones.embedding_gemma2_whole import sound_options
from commonspace.models.backbones.native import NativeBackbone
from commonspace.models.build import ModelOptions, build_model, kind_of, preprocessing_of, processor_of
from commonspace.models.embedder import Embedder
from commonspace.processing.native_processor import SPECIAL
from commonspace.processing.text import TextTokenizer

_FILE = Path(__file__).with_name("architectures.yaml")


def sketch(plain: Mapping[str, Any]) -> tuple[Embedder, str]:
    """The embedder that a composed `train` config trains, and where its sizes come from.

    Whole multimodal models have shapes and no numbers (torch's "meta" device). Raises ConfigError where neither a
    folder nor `architectures.yaml` tells the sizes.
    """
    model, init = plain["model"], plain["init"]
    if init is not None and (Path(init) / "config.json").is_file():
        return Embedder.load(init), str(init)
    kind, weights = kind_of(model["name"]), plain["weights"]
    if not issubclass(kind, NativeBackbone):
        cache = Path(plain["paths"]["cache"])
        return build_model(ModelOptions.of(model), preprocessing_of(model), weights=weights, cache=cache), weights
    folder = Path(weights) / model["backbone"]
    if (folder / "config.json").is_file():
        return shaped(model, json.loads((folder / "config.json").read_text())), str(folder)
    known = OmegaConf.to_container(OmegaConf.load(_FILE))
    if model["backbone"] not in known:
        raise ConfigError(
            f"model.backbone={model['backbone']}: its sizes are unknown here; give its folder by weights=FOLDER, or "
            f"name one of {', '.join(known)}"
        )
    return shaped(model, known[model["backbone"]]), _FILE.name


def shaped(model: Mapping[str, Any], config: Mapping[str, Any], device: str = "meta") -> Embedder:
    """A whole multimodal model of a `model` group, untrained; `config` is its config.json, or part of it."""
    kind = kind_of(model["name"])
    config = config.get("thinker_config", config)
    towers = [tower for tower, option in (("image", "vision"), ("audio", "audio")) if model[option]]
    described = {"model": dict(config), "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "vision": None, "audio": None}
    described["attention"] = model.get("attention", "full")
    described["sound"] = sound_options(transformers.Gemma4AudioFeatureExtractor()) if "audio" in towers else None
    with torch.device(device):
        backbone = kind.of_config(described, towers)
    processor = processor_of(backbone, numbers := preprocessing_of(model), _words(numbers))
    sizes = {name: model[name] for name in ("embedding_size", "pooling", "text_hidden")}
    with torch.device(device):
        return Embedder(backbone, processor, matryoshka_sizes=tuple(model["matryoshka_sizes"]), **sizes)


def _words(numbers: Any) -> TextTokenizer:
    """A tokenizer for which every word is one token, and every special one around a content: plans count, no more."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    around = getattr(numbers, "before", "") + getattr(numbers, "after", "")
    tokenizer.add_special_tokens(SPECIAL.findall(around))
    return TextTokenizer(tokenizer)
