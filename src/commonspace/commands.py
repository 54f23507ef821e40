"""The commands: each with its root config, the function that does the work, and a line of help.

Targets are named, not imported: what a command needs is loaded once it is known and its config is sound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

Calls = list[dict[str, Any]]  # keyword arguments of each call


@dataclass(frozen=True)
class Command:
    """`target` is "module:function"; it is called with the composed config, or, where `calls` is given, once with
    each of the keyword arguments that it makes of the config. `positional` names the options that bare words fill;
    `leaves` those that together say where the work is left, so that two jobs of a sweep do not share a place;
    `replaces` those whose folder is replaced whole, with the kind that it must be before the work begins. `rest` is a
    list that takes the bare words left over, `flags` are other spellings: {"-o": ("output", "file")}, key and value.
    `within` are options typed without the mapping they stand in, as hydra would take `task=` for its group of configs.
    """

    root: str
    target: str
    help: str
    calls: Callable[[DictConfig], Calls] | None = None
    positional: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    replaces: Mapping[str, str] = field(default_factory=dict)
    rest: str | None = None
    flags: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    within: Mapping[str, str] = field(default_factory=dict)


def _only(config: DictConfig) -> list[str] | None:
    return None if config.data.only is None else list(config.data.only)


def _fetch(config: DictConfig) -> Calls:
    archives = None if config.archives is None else Path(config.archives)
    place = {"cache": Path(config.paths.cache), "archives": archives}
    weights = [{"tier": "weights", **place}] if config.weights else []
    return [{"tier": config.data.tier, "only": _only(config), **place}, *weights]


def _build(config: DictConfig) -> Calls:
    folders = {"cache": Path(config.paths.cache), "data": Path(config.paths.data)}
    return [{"tier": config.data.tier, "folder": config.data.folder, "only": _only(config), **folders}]


def _build_own(config: DictConfig) -> Calls:
    return [{"pairs": Path(config.pairs), "data": Path(config.paths.data), "name": config.name}]


def _build_public(config: DictConfig) -> Calls:
    folders = {"cache": Path(config.paths.cache), "data": Path(config.paths.data)}
    place = None if config.folder is None else Path(config.folder)
    options = {"workers": config.workers, "limit": config.limit, "missing": config.missing}
    options["name"] = config.name or config.set
    return [{"name_of_set": config.set, "folder": place, **options, **folders}]


def _mix(config: DictConfig) -> Calls:
    folders = {"data": Path(config.paths.data), "cache": Path(config.paths.cache)}
    named = ("tiers", "output", "against", "workers", "duplicates", "leaks", "least_characters")
    groups = ("near", "likeness", "limits", "agreement")
    from commonspace.config_values import resolved

    plain = resolved(config, [*named, *groups])
    return [{**plain, **folders}]


def _synthesise(config: DictConfig) -> Calls:
    from commonspace.config_values import resolved

    named = [key for key in config if key not in ("launcher", "hydra")]
    plain = resolved(config, named)
    folders = {"data": Path(config.paths.data), "cache": Path(config.paths.cache)}
    options = {key: value for key, value in plain.items() if key not in ("paths", "input")}
    return [{**options, "source": str(config.input), **folders}]


def _report(config: DictConfig) -> Calls:
    folders = {key: Path(config.paths[key]) for key in ("data", "cache", "docs")}
    return [{"tier": config.data.tier, "folder": config.data.folder, **folders}]


def _pack(config: DictConfig) -> Calls:
    return [{"tier": config.data.tier, "data": Path(config.paths.data), "output": Path(config.output)}]


def _unpack(config: DictConfig) -> Calls:
    return [{"archive": Path(config.archive), "data": Path(config.paths.data)}]


def _merge(config: DictConfig) -> Calls:
    return [{"folder": Path(config.embedder), "output": Path(config.output)}]


def _checkpoint(config: DictConfig) -> Calls:
    return [{"checkpoint": Path(config.checkpoint), "output": Path(config.output)}]


_PREFIX = {"task": "prefix", "role": "prefix"}
COMMANDS: dict[str, Command] = {
    "recipe": Command(
        "recipe", "commonspace.recipe:main", "everything, from nothing to a table: recipe mini", positional=("recipe",)
    ),
    "data fetch": Command(
        "data_fetch",
        "data_prep.cli:fetch",
        "download a tier's packages, and the towers",
        _fetch,
        flags={"--archives": ("archives", "folder")},
    ),
    "data build": Command("data_build", "data_prep.cli:build", "make shards of what was fetched", _build),
    "data build own": Command(
        "data_build_own",
        "data_prep.cli:build_own",
        "make shards of your own PAIRS.jsonl",
        _build_own,
        ("pairs",),
        leaves=("paths.data", "name"),
    ),
    "data build public": Command(
        "data_build_public",
        "data_prep.cli:build_public",
        "make shards of a published set's files: SET folder=FOLDER",
        _build_public,
        ("set",),
        leaves=("paths.data", "name", "set"),
    ),
    "data mix": Command(
        "data_mix",
        "data_prep.cli:mix",
        "several tiers to one, without repetitions and what evaluations ask",
        _mix,
        leaves=("paths.data", "output"),
    ),
    "data synthesise": Command(
        "data_synthesise",
        "data_prep.cli:synthesise",
        "have a model write pairs about rows of a tier or your own: TEMPLATE INPUT",
        _synthesise,
        ("template", "input"),
        leaves=("output", "template"),
    ),
    "data features": Command("data_features", "commonspace.data.features:main", "cache what frozen towers give"),
    "data report": Command("data_report", "data_prep.cli:report", "write what each source gives to data.md", _report),
    "data pack": Command("data_pack", "data_prep.cli:pack", "one tar of a tier's shards, to carry away", _pack),
    "data unpack": Command(
        "data_unpack", "data_prep.cli:unpack_packed", "unpack and verify such a tar", _unpack, ("archive",)
    ),
    "train": Command(
        "train",
        "commonspace.stages.train:train",
        "one stage: align, pretrain or fine-tune",
        leaves=("output",),
        replaces={"output": "model"},
    ),
    "rival": Command(
        "rival",
        "commonspace.rivals.run:main",
        "train a peer on the same rows by open_clip or sentence-transformers",
        leaves=("output",),
        replaces={"output": "rival"},
    ),
    "mine": Command("mine", "commonspace.mining.run:main", "find hard negatives with a model", leaves=("output",)),
    "soup": Command(
        "soup",
        "commonspace.stages.soup:soup",
        "average models: greedily on dev, all, by learned shares",
        leaves=("output",),
        replaces={"output": "model", "uniform_output": "model"},
    ),
    "soup barriers": Command(
        "soup_barriers",
        "commonspace.stages.barriers:barriers",
        "dev loss on the way between models",
        leaves=("output",),
    ),
    "merge": Command(
        "merge",
        "commonspace.models.adapter_folder:main",
        "one model of an adapter and the base it names: ADAPTER -o OUTPUT",
        _merge,
        ("embedder",),
        leaves=("output",),
        replaces={"output": "model"},
        flags={"-o": ("output", "folder")},
    ),
    "checkpoint": Command(
        "checkpoint",
        "commonspace.stages.sharded_strategy:convert",
        "a sharded checkpoint as one file, or a file as shares: CHECKPOINT -o OUTPUT",
        _checkpoint,
        ("checkpoint",),
        leaves=("output",),
        flags={"-o": ("output", "file or folder")},
    ),
    "export": Command(
        "export",
        "commonspace.export.run:main",
        "a model folder as other libraries load it: --to FORM MODEL OUTPUT",
        positional=("embedder", "output"),
        leaves=("output",),
        replaces={"output": "export"},
        flags={"--to": ("to", "form"), "-o": ("output", "folder")},
    ),
    "evaluate": Command(
        "evaluate",
        "commonspace.evaluation.run:main",
        "score a model or a baseline",
        leaves=("output", "name", "embedder"),
    ),
    "evaluate pages": Command(
        "evaluate_pages",
        "commonspace.evaluation.pages_run:main",
        "score manual pages as one content against their text and images alone",
        leaves=("output", "name", "embedder"),
    ),
    "evaluate speech": Command(
        "evaluate_speech",
        "commonspace.evaluation.speech.run:main",
        "score speech against transcripts of it, in one language and across",
        leaves=("output", "name", "embedder"),
    ),
    "evaluate tables": Command(
        "evaluate_tables",
        "commonspace.evaluation.inhouse.run:main",
        "the paper's tables of a tier's rows, and what is missing there",
        leaves=("output",),
    ),
    "evaluate ablations": Command(
        "evaluate_ablations",
        "commonspace.evaluation.studies.run:main",
        "families of cells that have ended: what is told apart, a plot each",
        leaves=("output",),
    ),
    "evaluate mteb": Command(
        "evaluate_mteb",
        "commonspace.evaluation.mteb.run:main",
        "score a model on mteb's benchmarks, or any model of mteb on our held-out suite",
        leaves=("output", "name", "embedder", "suite", "share", "prefixes"),
    ),
    "evaluate paper": Command(
        "evaluate_paper",
        "commonspace.evaluation.paper.run:main",
        "score a model on a table of the paper, published rows beside it",
        leaves=("output", "name", "embedder"),
    ),
    "evaluate long": Command(
        "evaluate_long",
        "commonspace.evaluation.long_run:main",
        "score long, interleaved contents, and what they cost",
        leaves=("output", "name", "embedder"),
    ),
    "embed": Command(
        "embed",
        "commonspace.embed:main",
        "vectors of your own contents: MODEL FILES... -o OUTPUT",
        positional=("embedder",),
        leaves=("output",),
        rest="files",
        flags={"--jsonl": ("input", "file"), "-o": ("output", "file")},
        within=_PREFIX,
    ),
    "index": Command(
        "index",
        "commonspace.serving.search:index",
        "make vectors ready to be searched: VECTORS.parquet -o INDEX",
        positional=("vectors",),
        leaves=("output",),
        replaces={"output": "index"},
        flags={"-o": ("output", "folder")},
    ),
    "search": Command(
        "search",
        "commonspace.serving.search:main",
        "what lies nearest to a text or file: MODEL INDEX QUERY...",
        positional=("embedder", "index"),
        rest="queries",
        within=_PREFIX,
    ),
    "serve": Command(
        "serve",
        "commonspace.serving.http.run:main",
        "a model for clients of OpenAI's and Gemini's embeddings: MODEL",
        positional=("embedder",),
    ),
}
# Commands that only look at this machine: their own options, no config.
PLAIN: dict[str, tuple[str, str]] = {
    "launch": ("commonspace.launching.command:main", "submit a command, a sweep or a chain of steps to SLURM"),
    "plan": ("commonspace.planning.command:main", "what a training costs: FLOPs, memory, GPU-hours, storage"),
    "runs": ("commonspace.tracking.runs:main", "list the runs on this disk, filtered"),
    "doctor": (
        "commonspace.doctor:main",
        "what this machine has, what is missing, how to get it; or check model folders",
    ),
}
