"""The model a stage starts from: a model folder, or the pretrained towers joined anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from commonspace.data.features import attach_features
from commonspace.errors import ConfigError
from commonspace.models.adapter_folder import check_whole
from commonspace.models.adapters import Lora, attach
from commonspace.models.build import OWN, ModelOptions, build_model, preprocessing_of
from commonspace.models.embedder import Embedder
from commonspace.models.folder import describe

# What stays fully trained beside adapters: everything that starts untrained.
_UNTRAINED = r"head\..*|text_layer\..*|media_gate|backbone\.(image_connector|audio_connector|marks)\..*"

# Options that only building a model reads; the defaults say nothing.
_SET_WHEN_BUILT = ("backbone", "head_init")
_LENGTHS = ("positions", "max_positions", "merge_beyond", "window", "global_every")  # of `set_lengths`


def starting_model(plain: Mapping[str, Any]) -> Embedder:
    """The embedder of a composed `train` config, features attached and adapters in place.

    A model folder brings its own sizes; options of the `model` group that contradict it raise ConfigError.
    """
    model = plain["model"]
    if plain["init"] is not None:
        check_whole(Path(plain["init"]), "init")
        embedder = Embedder.load(plain["init"])
        _check_against_folder(embedder, model, plain["init"], plain["weights"])
    else:
        embedder = build_model(
            ModelOptions.of(model),
            preprocessing_of(model),
            weights=plain["weights"],
            cache=Path(plain["paths"]["cache"]),
        )
    embedder.processor = embedder.processor.renewed(model["on_limit"])
    if plain["data"]["features"]:
        attach_features(embedder, Path(plain["paths"]["cache"]))
    adapt(embedder, model["lora"])
    return embedder


def adapt(embedder: Embedder, lora: Mapping[str, Any]) -> None:
    """Put the adapters of a `model.lora` config in place; nothing at rank 0."""
    if lora["rank"]:
        adapted = rf"backbone\.{embedder.backbone.text_name}\.{embedder.backbone.linear_maps}"
        attach(embedder, Lora(adapted, lora["rank"], lora["alpha"], lora["dropout"], train=_UNTRAINED))


def _check_against_folder(embedder: Embedder, model: Mapping[str, Any], folder: str, weights: str) -> None:
    backbone = embedder.backbone
    if model["name"] != backbone.name:
        raise ConfigError(f"init={folder} has a {backbone.name} backbone, the config asks for {model['name']}")
    defaults, towers = ModelOptions(backbone=backbone.pretrained), backbone.towers()
    idle = {f"model.{name}": (model[name], getattr(defaults, name)) for name in _SET_WHEN_BUILT if name in model}
    for name, tower in (("vision", "image"), ("audio", "audio")):  # null where the folder has none
        stock = OWN if backbone.own_towers else getattr(defaults, name)
        known = (getattr(towers[tower], "weights", None) or stock) if tower in towers else None
        idle[f"model.{name}"] = (model[name], known)
    for name, (given, kept) in {**idle, "weights": (weights, "package")}.items():
        if given != kept:
            raise ConfigError(
                f"{name}={given} has no effect with init={folder}: it is set when a model is built; leave it at {kept}"
            )
    built = describe(embedder)
    pairs = {
        "embedding_size": (embedder.embedding_size, model["embedding_size"]),
        "matryoshka_sizes": (list(embedder.matryoshka_sizes), list(model["matryoshka_sizes"])),
        "pooling": (embedder.pooling, model["pooling"]),
        "text_hidden": (built["text_hidden"], model["text_hidden"]),
        "attention": (built.get("attention", "full"), model.get("attention", "full")),
        "connector_hidden": (built.get("connector_hidden"), model.get("connector_hidden") if towers else None),
        **{name: (built.get(name), model.get(name)) for name in _LENGTHS},
        "preprocessing": (embedder.processor.preprocessing.to_json(), preprocessing_of(model).to_json()),
    }
    for name, (have, want) in pairs.items():
        if have != want:
            raise ConfigError(f"init={folder} has {name} {have}, the config asks for {want}; a stage cannot change it")
