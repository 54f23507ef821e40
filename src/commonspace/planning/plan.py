"""A whole plan: samples, batches, memory, hours, storage; plain values, for tables and for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from commonspace.errors import ConfigError
from commonspace.models.embedder import Embedder
from commonspace.planning.architecture import sketch
from commonspace.planning.flops import PARTS, check_known, costs, load_of
from commonspace.planning.memory import memory_is_shown, memory_of
from commonspace.planning.samples import Rows, rows_of
from commonspace.planning.training import prepare

GPUS = Path(__file__).with_name("gpus.yaml")
_MATRICES = 4  # logits, their mask, their gradient and the loss's own copy, float32, of every Matryoshka size


def make_plan(
    plain: Mapping[str, Any], *, gpu: str, gpus: Sequence[int] = (), utilisation: float = 0.35
) -> dict[str, Any]:
    """The plan of a resolved `train` config on so many GPUs of a kind named in gpus.yaml.

    Raises ConfigError for what cannot be planned: unknown GPUs, sizes or rows, batches that processes cannot share.
    """
    machine, own = machines(gpu), plain["trainer"]["num_nodes"] * _devices(plain)
    if plain["stage"]["name"] == "align":
        raise ConfigError("plan: alignment trains connectors past the transformer, in minutes; plan another stage")
    embedder, source = sketch(plain)
    prepare(embedder, plain)
    cached = bool(plain["data"]["features"])
    check_known(embedder, cached)
    drawn = {name: task for name, task in plain["data"]["tasks"].items() if task["rate"] > 0}
    rows = {name: rows_of(plain, name, embedder) for name in drawn}
    batches = _batches(plain, drawn, rows, own)
    samples = {
        name: _sample(plain, embedder, rows[name], batches["tasks"][name]["chunks"] > 1, cached) for name in drawn
    }
    totals = _totals(plain, batches, samples, rows)
    return {
        "model": {"sizes": source, "parameters": sum(p.numel() for p in embedder.parameters()),
                  "trained": sum(p.numel() for p in embedder.parameters() if p.requires_grad),
                  "memory shown": memory_is_shown(embedder, cached)},
        "samples": samples,
        "batches": batches,
        "memory": {count: _memory(plain, embedder, drawn, rows, count, cached) for count in {own, *gpus}},
        "totals": totals,
        "hours": [_hours(totals, batches, count, machine, utilisation) for count in sorted({own, *gpus})],
        "storage": _storage(rows, totals),
        "gpu": {"name": gpu, "utilisation": utilisation, **machine},
    }  # fmt: skip


def machines(name: str) -> dict[str, float]:
    """A GPU's figures; ConfigError lists the known ones."""
    known = OmegaConf.to_container(OmegaConf.load(GPUS))
    if name not in known:
        raise ConfigError(f"--gpu {name}: unknown; {GPUS.name} has {', '.join(known)}")
    return known[name]


def _devices(plain: Mapping[str, Any]) -> int:
    devices = plain["trainer"]["devices"]
    if not isinstance(devices, int):
        raise ConfigError(f"trainer.devices={devices}: a plan needs their number, as trainer.devices=8")
    return devices


def _sample(plain: Mapping[str, Any], embedder: Embedder, rows: Rows, chunked: bool, cached: bool) -> dict[str, Any]:
    """Tokens and FLOPs of one row of a task."""
    options = {"cached": cached, "again": int(chunked), "checkpointed": plain["stage"]["gradient_checkpointing"]}
    cost = costs(embedder, [load_of(pieces, embedder) for pieces in rows.contents], **options)
    forward = {part: cost.forward[part] / rows.count for part in PARTS}
    return {
        "modalities": rows.modalities,
        "tokens": rows.tokens,
        "bytes": rows.bytes,
        "records": rows.records,
        "rows": rows.source,
        "forward": forward,
        "training": {part: cost.training[part] / rows.count for part in PARTS},
        "by modality": _by_modality(rows, forward),
    }


def _by_modality(rows: Rows, forward: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Tokens and forward FLOPs of a row by modality: its tower, and of transformer and head a share by tokens.

    Marks, and the tokenizer's start and end, are in no modality's tokens; their FLOPs are shared out with the rest.
    """
    tokens = rows.tokens_by_modality
    seen, whole = tokens.get("image", 0) + tokens.get("video", 0), sum(tokens.values())
    towers = {"audio": forward["audio"]} | {
        kind: forward["vision"] * tokens[kind] / seen for kind in tokens if kind in ("image", "video")
    }
    shared = forward["text"] + forward["head"]
    return {
        kind: {"tokens": count, "forward": shared * count / whole + towers.get(kind, 0.0)}
        for kind, count in tokens.items()
    }


def _batches(
    plain: Mapping[str, Any], drawn: Mapping[str, Any], rows: Mapping[str, Rows], devices: int
) -> dict[str, Any]:
    """What a batch of each task amounts to, and how many steps there are."""
    stage, tasks = plain["stage"], {}
    total_rate = sum(task["rate"] for task in drawn.values())
    shared = plain["objective"].get("share_negatives", False)
    for name, task in drawn.items():
        if task["batch_size"] % devices:
            raise ConfigError(f"task {name}: batch_size {task['batch_size']} cannot be split over {devices} processes")
        own = task["batch_size"] // devices
        tokens = task["batch_size"] * rows[name].tokens
        tasks[name] = {
            "share": task["rate"] / total_rate,
            "batch": task["batch_size"],
            "a device": own,
            "wrong targets": task["batch_size"] - 1 + rows[name].negatives * (task["batch_size"] if shared else 1),
            "tokens": tokens,
            "chunks": math.ceil(own * rows[name].tokens / stage["cache_tokens"]),
        }
    mean = sum(task["share"] * task["tokens"] for task in tasks.values())
    batches = stage["steps"] * stage["accumulate"] if stage["steps"] else max(1, round(stage["token_budget"] / mean))
    return {"tasks": tasks, "mean tokens": mean, "steps": batches // stage["accumulate"], "batches": batches}


def _totals(
    plain: Mapping[str, Any], batches: Mapping[str, Any], samples: Mapping[str, Any], rows: Mapping[str, Rows]
) -> dict[str, float]:
    """Of the whole run."""
    counts = {name: batches["batches"] * task["share"] * task["batch"] for name, task in batches["tasks"].items()}
    return {
        "rows": sum(counts.values()),
        "tokens": batches["batches"] * batches["mean tokens"],
        "flops": sum(count * sum(samples[name]["training"].values()) for name, count in counts.items()),
        "bytes read": sum(count * rows[name].bytes for name, count in counts.items()),
    }


def _memory(
    plain: Mapping[str, Any],
    embedder: Embedder,
    drawn: Mapping[str, Any],
    rows: Mapping[str, Rows],
    count: int,
    cached: bool,
) -> dict[str, float]:
    from dataclasses import asdict

    stage, chunks, similarities = plain["stage"], [], 0.0
    sizes = len(plain["model"]["matryoshka_sizes"]) if plain["objective"]["matryoshka"] else 1
    for name, task in drawn.items():
        loads = [load_of(pieces, embedder) for pieces in rows[name].contents]
        own = math.ceil(task["batch_size"] / count)
        tokens = min(stage["cache_tokens"], own * rows[name].tokens)
        contents = max(1, round(tokens / (sum(load.tokens for load in loads) / len(loads))))
        chunks.append([loads[place % len(loads)] for place in range(contents)])
        held = min(own, plain["objective"].get("chunk_rows") or own)
        similarities = max(similarities, 4.0 * _MATRICES * sizes * held * task["batch_size"])
    made = memory_of(
        embedder, chunks, bf16=plain["trainer"]["precision"] in ("auto", "bf16-mixed"), cached=cached,
        checkpointed=stage["gradient_checkpointing"], strategy=plain["trainer"]["strategy"], devices=count,
        averaged=stage["average"] == "ema", similarities=similarities,
    )  # fmt: skip
    return {**asdict(made), "total": made.total}


def _hours(
    totals: Mapping[str, float], batches: Mapping[str, Any], gpus: int, machine: Mapping[str, float], utilisation: float
) -> dict[str, Any]:
    """On so many GPUs: hours of all of them together, days, and what loaders must give."""
    seconds = totals["flops"] / (1e12 * machine["teraflops"] * utilisation * gpus)
    return {
        "gpus": gpus,
        "gpu hours": seconds * gpus / 3600,
        "days": seconds / 86400,
        "seconds a step": seconds / batches["steps"],
        "rows a second and GPU": totals["rows"] / seconds / gpus,
        "MB a second and GPU": totals["bytes read"] / seconds / gpus / 1e6,
        "even batches": all(task["batch"] % gpus == 0 for task in batches["tasks"].values()),
    }


def _storage(rows: Mapping[str, Rows], totals: Mapping[str, float]) -> dict[str, float]:
    return {
        "GB of records": sum(row.records * row.bytes for row in rows.values()) / 1e9,
        "GB read": totals["bytes read"] / 1e9,
    }
