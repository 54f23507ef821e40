"""Options of a model that are wrong together, as the whole of `contradictions` finds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Config = dict[str, Any]

NATIVE = ("omni", "qwen3_omni", "qwen3_vl", "embedding_gemma2_whole", "gemma3")  # backbones whose towers come with them
_OF_GRIDS = ("image_size", "image_grid", "image_patch", "document_grid", "frame_grid", "video_timestamps", "audio_mels",
             "audio_frames_per_row", "audio_merge", "connector_hidden", "positions", "max_positions", "merge_beyond",
             "window", "global_every")  # fmt: skip
_OF_BUDGETS = ("image_min_tokens", "image_max_tokens", "frame_min_tokens", "frame_max_tokens")
_OF_QWEN = ("attention", "before", "after", "query_prefix")
_STAMPED = {*_OF_GRIDS} - {"video_timestamps"}
_IDLE = {  # of natives that differ from Qwen's
    "embedding_gemma2_whole": {*_STAMPED, *_OF_QWEN, "image_min_tokens", "frame_min_tokens", "video_min_frames"},
    "gemma3": {*_STAMPED, *_OF_BUDGETS, *_OF_QWEN, "max_audio_seconds"},
}
_ROWS = 512  # of the table of positions that e5 has


def look_up(config: Config, key: str) -> Any:
    """The value at a dotted key; None where it is absent."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def model_sizes(config: Config) -> Iterable[str]:
    """Sizes of the model that do not fit one another, and options that its kind does not have."""
    model = config.get("model")
    if not isinstance(model, dict):
        return
    sizes, full = model["matryoshka_sizes"], model["embedding_size"]
    if not sizes or sizes != sorted(set(sizes)) or sizes[-1] != full or sizes[0] < 1:
        yield f"model.matryoshka_sizes: {sizes} must rise to model.embedding_size={full}"
    if look_up(config, "objective.matryoshka") and len(sizes) < 2:
        yield "objective.matryoshka: needs a size below the full one in model.matryoshka_sizes, or false"
    if model["name"] == "compact" and model["head_init"] != "random" and full > 384:
        kept = model["head_init"]
        yield f"model.head_init: {kept} keeps the backbone's 384 directions and cannot give {full}; use random"
    yield from (f"model.{key}: has no effect on model.name={model['name']}; leave it out" for key in _idle(model))
    if model["name"] in NATIVE:  # no grids, no connectors
        if model["pooling"] == "input_and_last":
            yield f"model.pooling: input_and_last reads what connectors make, {model['name']} has none; use mean"
        return
    yield from _lengths(model)
    patch = model["image_patch"]
    if patch is not None and (patch < 1 or model["image_size"] % patch):
        yield f"model.image_size: {model['image_size']} is no multiple of image_patch={patch}"
    grid, most = model["image_grid"], model["image_size"] // 32
    if not 1 <= grid <= most:
        yield f"model.image_grid: {grid} tokens a side; image_size={model['image_size']} gives 1 to {most}"


def _lengths(model: Config) -> Iterable[str]:
    """What contents beyond the backbone's positions meet; `build_model` looks again, at the weights' own table."""
    positions, most, merge = model["positions"], model["max_positions"], model["merge_beyond"]
    if model["name"] != "compact" and positions != "limit":
        yield f"model.positions: {positions} is for a table of learned positions, {model['name']} has none; use limit"
    if (positions == "limit") != (most is None):
        yield f"model.max_positions: {most} with positions={positions}; limit takes null, the others need a number"
    if merge is not None and merge >= model["max_tokens"]:
        yield f"model.merge_beyond: no content has more than max_tokens={model['max_tokens']}; {merge} has no effect"
    yield from _windows(model)
    if model["max_text_tokens"] > model["max_tokens"]:
        yield f"model.max_text_tokens: {model['max_text_tokens']} is above max_tokens={model['max_tokens']}"
    taken = most or (_ROWS if model["name"] == "compact" else None)
    if taken and merge is None and model["max_tokens"] > taken:
        yield (
            f"model.max_tokens: {model['max_tokens']} is above the {taken} positions; lower it, or let contents go "
            "beyond by positions=interpolate or restart with max_positions, or by merge_beyond"
        )


def _windows(model: Config) -> Iterable[str]:
    window, every = model["window"], model["global_every"]
    if model["name"] != "compact" and (window, every) != (None, None):
        yield f"model.window: layers of {model['name']} see what they were made to see; use null, as for global_every"
    elif (window is None) != (every is None):
        yield f"model.global_every: {every} with window={window}; give both, or null for both"
    elif window is not None and window >= model["max_tokens"] - 1:
        yield f"model.window: no content has a token further than max_tokens={model['max_tokens']}; {window} is all"


def _idle(model: Config) -> list[str]:
    """Options of the other presets: squares and connectors, or the budgets of backbones with towers of their own."""
    others = _OF_GRIDS if model["name"] in NATIVE else (*_OF_BUDGETS, *_OF_QWEN)
    return sorted(set(model) & set(_IDLE.get(model["name"], others)))


def frozen_parts(config: Config) -> Iterable[str]:
    """What is frozen and asked to train, or kept as features and trained."""
    model, stage = config.get("model"), config.get("stage")
    if not isinstance(model, dict) or not isinstance(stage, dict):
        return
    known = {"words", "text", "vision", "audio", "head"}
    for name in stage["freeze"]:
        if name not in known:
            yield f"stage.freeze: {name!r} is none of {', '.join(sorted(known))}"
    asked = {"vision": "vision_trainable_stages", "audio": "audio_trainable"}
    asked = {name: option for name, option in asked.items() if stage[option]}
    for name, option in asked.items():
        if model["name"] in NATIVE:
            yield f"stage.{option}: {model['name']}'s own towers train unless stage.freeze names them; leave it out"
        elif model[name] is None:
            yield f"stage.{option}: there is no {name} tower; leave it out"
        elif name in stage["freeze"]:
            yield f"stage.{option}: has no effect while stage.freeze holds {name}; take it out"
    if model["lora"]["rank"] and "text" in stage["freeze"]:
        yield "model.lora.rank: adapters on a frozen backbone would not train; drop text from stage.freeze"
    for name in ("alpha", "dropout"):
        if not model["lora"]["rank"] and model["lora"][name]:
            yield f"model.lora.{name}: has no effect at rank 0"
    if stage.get("gradient_checkpointing") and "text" in stage["freeze"] and not (model["vision"] or model["audio"]):
        yield "stage.gradient_checkpointing: text is frozen and no tower stands before it: no gradient passes a layer"
    if model["name"] in NATIVE:
        if look_up(config, "data.features"):
            yield f"data.features: what {model['name']}'s own towers give is not kept; set data.features=false"
        return
    if look_up(config, "data.features"):
        for name in asked:
            yield f"data.features: the {name} tower trains, so no cache can stand in for it; set data.features=false"
    yield from _adapter_alone(config, model["lora"])


def _adapter_alone(config: Config, lora: Config) -> Iterable[str]:
    if lora["save"] != "adapter":
        return
    if not lora["rank"]:
        yield "model.lora.save: there is no adapter to save at rank 0"
    if config.get("init") is None:
        yield "model.lora.save: an adapter names the model folder it belongs to; give one as init, or take merged"
    elif config.get("init") == config.get("output"):
        yield "output: is init, which the adapter needs; name another folder"
