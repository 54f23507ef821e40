"""Options that are wrong together, or outside their range: found in the resolved config, before anything loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from commonspace.errors import ConfigError

Config = dict[str, Any]


def contradictions(config: Config) -> list[str]:
    """Every finding in a resolved config, as "key: what is wrong; what to do". Keys that are absent are not judged."""
    return [finding for rule in _RULES for finding in rule(config)]


def _number(config: Config, key: str, low: float, high: float, *, open_low: bool = False) -> Iterable[str]:
    value = _get(config, key)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        yield f"{key}: {value!r} is no number"
    elif not low <= value <= high or (open_low and value == low):
        yield f"{key}: {value} is outside {'(' if open_low else '['}{low}, {high}]"


def _get(config: Config, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _ranges(config: Config) -> Iterable[str]:
    huge = 1e15
    for key in ("data.prefix_dropout", "stage.average_share", "stage.warmup", "stage.settle", "model.lora.dropout"):
        yield from _number(config, key, 0, 1)
    for key in ("stage.token_budget", "stage.steps", "stage.cache_tokens", "batch_tokens", "chunk"):
        yield from _number(config, key, 1, huge)
    yield from _number(config, "stage.dev_every", 0, 1)
    for key in ("stage.temperature", "callbacks.checkpoint_every"):
        yield from _number(config, key, 0, huge, open_low=True)
    for key in ("stage.learning_rate", "stage.new_learning_rate", "stage.weight_decay", "data.workers", "data.memory"):
        yield from _number(config, key, 0, huge)
    for key in ("data.limit", "data.skip_budget", "callbacks.keep"):
        yield from _number(config, key, 1, huge)
    for key in ("model.merge_beyond", "model.max_positions"):
        yield from _number(config, key, 16, huge)
    for key in ("count", "bootstrap", "seeds", "tries", "k", "rescored"):
        yield from _number(config, key, 1, huge)


def _choices(config: Config) -> Iterable[str]:
    choices = {
        "model.name": ("compact", "causal_lm", "embedding_gemma2", "open_clip_text", *_NATIVE),
        "model.head_init": ("identity", "random"),
        "model.pooling": ("mean", "last", "input_and_last"),
        "model.on_limit": ("truncate", "error"),
        "model.positions": ("limit", "interpolate", "restart"),
        "model.lora.save": ("merged", "adapter"),
        "callbacks.progress": ("rich", "none"),
        "logger.wandb.mode": ("offline", "online"),
        "data.split": ("dev", "heldout"),
        "resume": ("auto", "never"),
        "on_error": ("stop", "skip"),
        "prefix.role": ("query", "document"),
        "prefix_policy": ("query", "task", "none"),
    }
    for key, allowed in choices.items():
        value = _get(config, key)
        if value is not None and value not in allowed:
            yield f"{key}: {value!r} is none of {', '.join(allowed)}"


def _precision(config: Config) -> Iterable[str]:
    from commonspace.models.precisions import precision_fault

    for key in ("precision", "trainer.precision"):
        value = _get(config, key)
        if value is not None and (fault := precision_fault(key, value)):
            yield fault


def _owners(config: Config) -> Iterable[str]:
    """What the options' own classes refuse; they import nothing heavy."""
    from commonspace.objectives.nce_options import NCEOptions
    from commonspace.stages.settings import StageSettings

    for group, reads, own in (
        ("stage", StageSettings.from_config, ()),
        ("objective", NCEOptions.from_config, ("name", "matryoshka", "reverse")),
    ):
        options = config.get(group)
        if isinstance(options, dict):
            try:
                reads({key: value for key, value in options.items() if key not in own})
            except (ConfigError, TypeError) as error:
                yield f"{group}: {error}"


def _sizes(config: Config) -> Iterable[str]:
    model = config.get("model")
    if not isinstance(model, dict):
        return
    sizes, full = model["matryoshka_sizes"], model["embedding_size"]
    if not sizes or sizes != sorted(set(sizes)) or sizes[-1] != full or sizes[0] < 1:
        yield f"model.matryoshka_sizes: {sizes} must rise to model.embedding_size={full}"
    if _get(config, "objective.matryoshka") and len(sizes) < 2:
        yield "objective.matryoshka: needs a size below the full one in model.matryoshka_sizes, or false"
    if model["name"] == "compact" and model["head_init"] == "identity" and full > 384:
        yield f"model.head_init: identity keeps the backbone's 384 directions and cannot give {full}; use random"
    yield from (f"model.{key}: has no effect on model.name={model['name']}; leave it out" for key in _idle(model))
    if model["name"] in _NATIVE:  # no grids, no connectors
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
    if model["max_text_tokens"] > model["max_tokens"]:
        yield f"model.max_text_tokens: {model['max_text_tokens']} is above max_tokens={model['max_tokens']}"
    taken = most or (_ROWS if model["name"] == "compact" else None)
    if taken and merge is None and model["max_tokens"] > taken:
        yield (
            f"model.max_tokens: {model['max_tokens']} is above the {taken} positions; lower it, or let contents go "
            "beyond by positions=interpolate or restart with max_positions, or by merge_beyond"
        )


def _idle(model: Config) -> list[str]:
    """Options of the other presets: squares and connectors, or the budgets of backbones with towers of their own."""
    return sorted(set(model) & set(_OF_GRIDS if model["name"] in _NATIVE else _OF_BUDGETS))


def _frozen(config: Config) -> Iterable[str]:
    model, stage = config.get("model"), config.get("stage")
    if not isinstance(model, dict) or not isinstance(stage, dict):
        return
    known = {"words", "text", "vision", "audio", "head"}
    for name in stage["freeze"]:
        if name not in known:
            yield f"stage.freeze: {name!r} is none of {', '.join(sorted(known))}"
    stages = model.get("vision_trainable_stages")
    if stages and "vision" in stage["freeze"]:
        yield "model.vision_trainable_stages: has no effect while stage.freeze holds vision; take it out"
    if model["lora"]["rank"] and "text" in stage["freeze"]:
        yield "model.lora.rank: adapters on a frozen backbone would not train; drop text from stage.freeze"
    if not model["lora"]["rank"] and model["lora"]["dropout"]:
        yield "model.lora.dropout: has no effect at rank 0"
    if stage.get("gradient_checkpointing") and "text" in stage["freeze"] and not (model["vision"] or model["audio"]):
        yield "stage.gradient_checkpointing: text is frozen and no tower stands before it: no gradient passes a layer"
    trains = [name for name in ("vision", "audio") if model[name] is not None and name not in stage["freeze"]]
    if model["name"] in _NATIVE:
        if _get(config, "data.features"):
            yield f"data.features: what {model['name']}'s own towers give is not kept; set data.features=false"
        return
    if not stages and "vision" in trains:
        trains.remove("vision")
    if _get(config, "data.features"):
        for name in trains:
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


def _tasks(config: Config) -> Iterable[str]:
    tasks = _get(config, "data.tasks")
    if not isinstance(tasks, dict) or "stage" not in config:
        return
    if absent := [name for name, task in tasks.items() if not isinstance(task, dict) or "name" not in task]:
        for name in absent:
            known = ", ".join(sorted(set(tasks) - set(absent)))
            yield f"data.tasks.{name}: no task of this mixture; it has {known}"
        return
    if not any(task["rate"] > 0 for task in tasks.values()):
        yield "data.tasks: no task has a rate above 0; nothing would train"
    for name, task in tasks.items():
        if task["name"] != name:
            yield f"data.tasks.{name}.name: is {task['name']!r}; it must repeat the key"
        if task["batch_size"] < 2:
            yield f"data.tasks.{name}.batch_size: {task['batch_size']} leaves no wrong target to learn from; at least 2"
        if task["rate"] < 0:
            yield f"data.tasks.{name}.rate: {task['rate']} is negative"
    drawn = [task for task in tasks.values() if task["rate"] > 0]
    if _get(config, "data.prefix_dropout") is not None and not any(task["prompt"] for task in drawn):
        yield "data.prefix_dropout: no task that is drawn has a prompt; set it to null"
    if _get(config, "objective.reverse") and not any(task["reverse"] for task in drawn):
        yield "objective.reverse: no task that is drawn names a reverse; set it to false"
    for option in ("task_temperatures", "task_text_dropout"):
        for name in set(config["stage"].get(option, {})) - {task["name"] for task in drawn}:
            yield f"stage.{option}.{name}: no task of that name is drawn; take it out"
    if config["stage"]["name"] == "pretrain" and _get(config, "data.negatives") is not None:
        yield "data.negatives: pretraining takes no hard negatives; use stage=finetune, or null"
    if _get(config, "objective.share_negatives") and _get(config, "data.negatives") is None and "own" not in tasks:
        yield "objective.share_negatives: there are no hard negatives to share (data.negatives=null)"


def _processes(config: Config) -> Iterable[str]:
    trainer = config.get("trainer")
    if not isinstance(trainer, dict) or "strategy" not in trainer:
        return
    if trainer["strategy"] == "fsdp" and trainer["accelerator"] == "cpu":
        yield "trainer.strategy: fsdp needs GPUs; use trainer=ddp on CPUs"
    many = trainer["num_nodes"] > 1 or (isinstance(trainer["devices"], int) and trainer["devices"] > 1)
    if many and trainer["strategy"] == "auto":
        yield "trainer.strategy: auto with several processes would not say how they share work; use trainer=ddp or fsdp"


def _soup(config: Config) -> Iterable[str]:
    ingredients = config.get("ingredients")
    if ingredients is None:
        return
    if len(ingredients) < 2:
        yield f"ingredients: {len(ingredients)} given; a soup takes at least two model folders"
    if len(set(ingredients)) != len(ingredients):
        yield "ingredients: a folder is named twice"
    weights = config.get("weights")
    if weights is None:
        return
    if not isinstance(weights, list) or len(weights) != len(ingredients):
        yield f"weights: {weights} is no list of {len(ingredients)} numbers, one an ingredient"
    elif not all(isinstance(weight, (int, float)) and 0 < weight < float("inf") for weight in weights):
        yield f"weights: {weights} must be positive numbers; leave an ingredient out to give it none"


def _search(config: Config) -> Iterable[str]:
    if "queries" not in config:
        return
    if not config["queries"]:
        yield "queries: give at least one, a text or a file"


def _prefix(config: Config) -> Iterable[str]:
    prefix = config.get("prefix")
    if isinstance(prefix, dict) and prefix["role"] and not prefix["task"]:
        yield "role: has no effect without task; name one, or leave it out"


def _embedding(config: Config) -> Iterable[str]:
    if "on_error" not in config:
        return
    if bool(config["input"]) == bool(config["files"]):
        yield "input: give JSON lines (--jsonl FILE, or input=FILE) or FILES, one of the two"
    if not str(config["output"]).endswith(_VECTOR_FILES):
        yield f"output: {config['output']} must end with {', '.join(_VECTOR_FILES)}"


def _evaluation(config: Config) -> Iterable[str]:
    """What `evaluate` would not read: a baseline brings its own vectors, and only late fusion is tuned and trained."""
    embedder = config.get("embedder")
    if embedder is None or "tries" not in config:
        return
    if embedder in _BASELINES:
        idle = (
            "name",
            "dims",
            "prefix_policy",
            "batch_tokens",
            "precision",
            "quantised",
            "rescored",
            *(() if embedder in _TUNED else _OF_TUNING),
        )
    else:
        forms = config.get("quantised") or []
        yield from (f"quantised: {form!r} is none of {', '.join(_FORMS)}" for form in forms if form not in _FORMS)
        idle = (*_OF_TUNING, *(() if set(forms) & set(_RESCORING) else ("rescored",)))
    for key in (*idle, *(() if embedder == "baselines" else ("teachers",))):
        if config.get(key) != _UNASKED.get(key):
            yield f"{key}: has no effect on embedder={embedder}; leave it out"


_NATIVE = ("omni", "qwen3_omni", "qwen3_vl")  # backbones whose towers come with them
_OF_GRIDS = ("image_size", "image_grid", "image_patch", "document_grid", "frame_grid", "video_timestamps", "audio_mels",
             "audio_frames_per_row", "audio_merge", "vision_trainable_stages", "connector_hidden", "positions",
             "max_positions", "merge_beyond")  # fmt: skip
_OF_BUDGETS = ("image_min_tokens", "image_max_tokens", "frame_min_tokens", "frame_max_tokens")
# As configs/evaluate.yaml has them; a test holds the two together.
_UNASKED = {
    "prefix_policy": "query",
    "batch_tokens": 8192,
    "precision": "32-true",
    "seed": 1,
    "seeds": 5,
    "tries": 8,
    "rescored": 40,
}
_ROWS = 512  # of the table of positions that e5 has
_OF_TUNING = ("seed", "seeds", "tries", "tuned")
_TUNED = ("late_fusion", "baselines")
_VECTOR_FILES = (".npy", ".parquet", ".safetensors")
_RESCORING = ("binary_float", "binary_int8")
_FORMS = ("int8", "binary", *_RESCORING)
_BASELINES = ("chance", "bm25", "e5", *_TUNED)
_RULES: tuple[Callable[[Config], Iterable[str]], ...] = (
    _ranges, _choices, _precision, _owners, _sizes, _frozen, _tasks, _processes, _soup, _embedding, _search, _prefix,
    _evaluation,
)  # fmt: skip
