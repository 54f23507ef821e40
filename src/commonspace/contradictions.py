"""Options that are wrong together, or outside their range: found in the resolved config, before anything loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from commonspace.errors import ConfigError
from commonspace.model_contradictions import NATIVE, frozen_parts, look_up, model_sizes
from commonspace.objective_contradictions import objective_fit, pairs_temperatures
from commonspace.stage_contradictions import as_drawn, mixtures, soups

Config = dict[str, Any]


def contradictions(config: Config) -> list[str]:
    """Every finding in a resolved config, as "key: what is wrong; what to do". Keys that are absent are not judged."""
    found = list(mixtures(config))
    return found + [finding for rule in _RULES for finding in rule(config if found else as_drawn(config))]


def _number(config: Config, key: str, low: float, high: float, *, open_low: bool = False) -> Iterable[str]:
    value = look_up(config, key)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        yield f"{key}: {value!r} is no number"
    elif not low <= value <= high or (open_low and value == low):
        yield f"{key}: {value} is outside {'(' if open_low else '['}{low}, {high}]"


def _ranges(config: Config) -> Iterable[str]:
    huge = 1e15
    shares = ("data.canonical", "data.prefix_dropout", "stage.average_share", "stage.warmup", "stage.settle")
    for key in (*shares, "model.lora.dropout"):
        yield from _number(config, key, 0, 1)
    for key in (
        "stage.token_budget",
        "stage.steps",
        "stage.cache_tokens",
        "batch_tokens",
        "chunk",
        "graph_rows",
        "expansion",
    ):
        yield from _number(config, key, 1, huge)
    yield from _number(config, "stage.dev_every", 0, 1)
    positive = ("stage.temperature", "stage.clip_norm", "data.temperature", "data.concentration")
    of_soups = ("loss.temperature", "learned.learning_rate")
    for key in (*positive, *of_soups, "callbacks.checkpoint_every", "callbacks.checkpoint_minutes"):
        yield from _number(config, key, 0, huge, open_low=True)
    for key in (
        "stage.learning_rate",
        "stage.new_learning_rate",
        "stage.temperature_learning_rate",
        "stage.weight_decay",
        "data.workers",
        "data.memory",
        "memory",
        "callbacks.keep",
    ):
        yield from _number(config, key, 0, huge)
    counts = ("data.limit", "data.bucket", "data.skip_budget", "data.sub_batches", "data.stall_seconds")
    for key in counts:
        yield from _number(config, key, 1, huge)
    for key in ("model.merge_beyond", "model.max_positions", "model.window"):
        yield from _number(config, key, 16, huge)
    yield from _number(config, "model.global_every", 2, huge)
    for key, least in (("data.dirichlet", 0), ("points", 3), ("loss.batch_size", 2), ("learned.steps", 1)):
        yield from _number(config, key, least, huge)
    yield from _number(config, "logger.wandb.examples", 0, 1000)
    yield from _number(config, "port", 1, 65535)
    yield from _number(config, "wait_milliseconds", 0, 10_000)
    served = ("contents", "waiting", "connections", "body_megabytes", "media_megabytes")
    for key in (f"limits.{name}" for name in served):
        yield from _number(config, key, 0, huge, open_low=True)
    for key in ("count", "bootstrap", "seeds", "tries", "k", "rescored"):
        yield from _number(config, key, 1, huge)


def _choices(config: Config) -> Iterable[str]:
    choices = {
        "model.name": ("compact", "causal_lm", "embedding_gemma2", "open_clip_text", *NATIVE),
        "model.head_init": ("identity", "plain", "random"),
        "model.attention": ("full", "causal"),
        "model.pooling": ("mean", "last", "input_and_last"),
        "model.on_limit": ("truncate", "error"),
        "to": ("sentence-transformers", "huggingface"),
        "model.positions": ("limit", "interpolate", "restart"),
        "model.lora.save": ("merged", "adapter"),
        "callbacks.progress": ("rich", "none"),
        "logger.wandb.mode": ("offline", "online"),
        "wandb": ("offline", "online", "none"),  # of evaluations, which log into the run that trained the model
        "data.split": ("dev", "heldout"),
        "resume": ("auto", "never"),
        "method": ("greedy", "uniform", "weighted", "learned", "slerp"),
        "lora": ("merge", "factors"),
        "path": ("straight", "sphere"),
        "learned.by": ("model", "layer"),
        "on_error": ("stop", "skip"),
        "on_limit": ("error", "truncate"),
        "positions": ("interpolate", "restart"),  # of manual pages, none of which is cut
        "prefix.role": ("query", "document"),
        "prefix_policy": ("query", "task", "none"),
    }
    for key, allowed in choices.items():
        value = look_up(config, key)
        if value is not None and value not in allowed:
            yield f"{key}: {value!r} is none of {', '.join(allowed)}"


def _precision(config: Config) -> Iterable[str]:
    from commonspace.models.precisions import precision_fault

    for key in ("precision", "trainer.precision"):
        value = look_up(config, key)
        if value is not None and (fault := precision_fault(key, value)):
            yield fault


def _owners(config: Config) -> Iterable[str]:
    """What the options' own classes refuse; they import nothing heavy."""
    from commonspace.objectives.named import options_of
    from commonspace.stages.settings import StageSettings

    for group, reads in (("stage", StageSettings.from_config), ("objective", options_of)):
        options = config.get(group)
        if isinstance(options, dict):
            try:
                reads(options)
            except (ConfigError, TypeError) as error:
                yield f"{group}: {error}"


def _tasks(config: Config) -> Iterable[str]:
    tasks = look_up(config, "data.tasks")
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
        if task.get("swap") and config["stage"]["name"] == "align":
            yield f"data.tasks.{name}.swap: alignment has no queries; set it to false"
        if task.get("swap") and look_up(config, "data.negatives") is not None:
            yield f"data.tasks.{name}.swap: data.negatives are wrong targets, no wrong queries; set one of the two back"
        if task["rate"] < 0:
            yield f"data.tasks.{name}.rate: {task['rate']} is negative"
    drawn = [task for task in tasks.values() if task["rate"] > 0]
    if look_up(config, "data.prefix_dropout") is not None and not any(task["prompt"] for task in drawn):
        yield "data.prefix_dropout: no task that is drawn has a prompt; set it to null"
    if look_up(config, "data.prefix_dropout") is not None and config["stage"]["name"] == "align":
        yield "data.prefix_dropout: alignment encodes each text once, without a prefix; set it to null"
    if look_up(config, "objective.reverse") and not any(task["reverse"] for task in drawn):
        yield "objective.reverse: no task that is drawn names a reverse; set it to false"
    for option in ("task_temperatures", "task_text_dropout"):
        for name in set(config["stage"].get(option, {})) - {task["name"] for task in drawn}:
            yield f"stage.{option}.{name}: no task of that name is drawn; take it out"
    if config["stage"]["name"] == "pretrain" and look_up(config, "data.negatives") is not None:
        yield "data.negatives: pretraining takes no hard negatives; use stage=finetune, or null"
    if look_up(config, "data.reverse_negatives"):
        if look_up(config, "data.negatives") is None:
            yield "data.reverse_negatives: there are no lists with data.negatives=null; set it to false, or mine some"
        elif not look_up(config, "objective.reverse"):
            yield "data.reverse_negatives: the objective takes no loss from target to query; set it to false"
    if look_up(config, "data.negative_count") == 0 and look_up(config, "data.negatives") is not None:
        yield "data.negative_count: 0 leaves nothing of data.negatives; set data.negatives=null, or take at least one"


def _sub_batches(config: Config) -> Iterable[str]:
    """Tasks that meet in one batch share its direction, and each gives a whole share of its batch."""
    parts, tasks = look_up(config, "data.sub_batches"), look_up(config, "data.tasks")
    if not isinstance(parts, int) or parts <= 1 or not isinstance(tasks, dict):
        return
    drawn = {name: task for name, task in tasks.items() if isinstance(task, dict) and task.get("rate", 0) > 0}
    if look_up(config, "stage.name") == "align":
        yield "data.sub_batches: alignment takes media or texts, a batch of one task; leave it at 1"
    if len(drawn) < 2 or look_up(config, "data.first_only"):
        yield "data.sub_batches: one task alone is drawn, so none meets another; leave it at 1"
    if look_up(config, "objective.reverse") and len({bool(task.get("reverse")) for task in drawn.values()}) > 1:
        yield "objective.reverse: tasks of one batch (data.sub_batches) must agree on it; set it to false"
    for name, task in drawn.items():
        if task.get("batch_size", 0) % parts:
            size = task["batch_size"]
            yield f"data.tasks.{name}.batch_size: {size} has no {parts} equal sub-batches (data.sub_batches)"


def _remote(config: Config) -> Iterable[str]:
    """Only training reads from afar or copies to the node's own disk, and nothing is written there."""
    local = look_up(config, "paths.local")
    if local is not None and "objective" not in config:
        yield f"paths.local: {local} has no effect; only `train` copies its shards there"
    data = look_up(config, "paths.data")
    if local is not None and "://" in str(data):
        yield f"paths.local: paths.data={data} is a URL, and those are not copied; put simplecache:: before it instead"
    for name, value in (config.get("paths") or {}).items():
        if "://" in str(value) and (name != "data" or "objective" not in config):
            yield f"paths.{name}: {value} is no folder of this machine; only `train` reads, paths.data, from a URL"


def _processes(config: Config) -> Iterable[str]:
    trainer = config.get("trainer")
    if not isinstance(trainer, dict) or "strategy" not in trainer:
        return
    if trainer["strategy"] == "fsdp":
        if look_up(config, "stage.name") == "align":
            yield "trainer.strategy: fsdp shards a transformer that align does not train; use trainer=ddp"
        if look_up(config, "stage.keep_best"):
            yield "stage.keep_best: puts whole weights back, which fsdp holds in shares; set it to false"
    elif trainer.get("save_shares"):
        yield f"trainer.save_shares: has no effect on strategy={trainer['strategy']}, which has no shares; leave it out"
    many = trainer["num_nodes"] > 1 or (isinstance(trainer["devices"], int) and trainer["devices"] > 1)
    if many and trainer["strategy"] == "auto":
        yield "trainer.strategy: auto with several processes would not say how they share work; use trainer=ddp or fsdp"


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
            "wandb",
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


def _mining(config: Config) -> Iterable[str]:
    """What mining's own options refuse; they import nothing heavy."""
    from commonspace.mining.options import findings

    yield from findings(config) if "teacher_margin" in config else ()


# As configs/evaluate.yaml has them; a test holds the two together.
_UNASKED = {
    "prefix_policy": "query",
    "batch_tokens": 8192,
    "precision": "32-true",
    "wandb": "offline",
    "seed": 1,
    "seeds": 5,
    "tries": 8,
    "rescored": 40,
}
_OF_TUNING = ("seed", "seeds", "tries", "tuned")
_TUNED = ("late_fusion", "baselines")
_VECTOR_FILES = (".npy", ".parquet", ".safetensors")
_RESCORING = ("binary_float", "binary_int8")
_FORMS = ("int8", "binary", *_RESCORING)
_BASELINES = ("chance", "bm25", "e5", *_TUNED)
_RULES: tuple[Callable[[Config], Iterable[str]], ...] = (
    _ranges, _choices, _precision, _owners, model_sizes, frozen_parts, _tasks, objective_fit, pairs_temperatures,
    _sub_batches, _remote, _processes, soups, _embedding, _search, _prefix, _evaluation, _mining,
)  # fmt: skip
