"""What a stage says of itself: the arithmetic of a step when it starts, the model card when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.data.storage import place
from commonspace.stages.contrastive import ContrastiveStage
from commonspace.stages.sources import card_sources, drawn_sources, merged, sources_section

# float32 values a transformer layer keeps for its backward pass, per token and width: inputs of its six products,
# its norms and its activation, counted on BERT's layer
_KEPT_PER_LAYER = 16


def batch_arithmetic(
    stage: ContrastiveStage, datamodule: CommonspaceDataModule, plain: Mapping[str, Any]
) -> dict[str, Any]:
    """What a step amounts to: pairs, wrong targets a query, tokens, steps, and about how much memory it takes."""
    schedule = datamodule.schedule()
    sizes = sorted({row["batch_size"] for row in schedule if row["steps"]})
    span = [str(sizes[0])] if len(sizes) == 1 else [str(sizes[0]), str(sizes[-1])]
    return {
        "steps": datamodule.steps // stage.settings.accumulate,
        "accumulate": stage.settings.accumulate,
        "batch": "..".join(span),
        "negatives_per_query": "..".join(str(int(size) - 1) for size in span),
        "tokens_per_batch": round(datamodule.tokens_per_batch()),
        "token_budget": stage.settings.token_budget,
        "cache_tokens": stage.settings.cache_tokens,
        "memory_gb": round(expected_memory(stage) / 1e9, 1),
        "processes": f"{plain['trainer']['num_nodes']} x {plain['trainer']['devices']}",
        "schedule": schedule,
    }


def expected_memory(stage: ContrastiveStage) -> int:
    """Bytes of weights, of gradients and AdamW's two moments for what trains, and of one full chunk's activations."""
    backbone = stage.embedder.backbone
    weights = sum(p.numel() * p.element_size() for p in stage.parameters())
    trained = sum(p.numel() * p.element_size() for p in stage.parameters() if p.requires_grad)
    layers = len(backbone.layers())
    # A checkpointed layer keeps what enters it; one layer at a time is whole.
    kept = layers + _KEPT_PER_LAYER if stage.settings.gradient_checkpointing else layers * _KEPT_PER_LAYER
    per_token = kept * backbone.width * 4
    return weights + 3 * trained + per_token * stage.settings.cache_tokens


def print_arithmetic(arithmetic: Mapping[str, Any], console: Console) -> None:
    """One line, the schedule of tasks as a table, and a warning of tasks that it never draws."""
    several = f"{arithmetic['accumulate']} batches of " if arithmetic["accumulate"] > 1 else ""
    budget = f" of {arithmetic['token_budget']:,} in all" if arithmetic["token_budget"] else ""
    console.print(
        f"{arithmetic['steps']} steps of {several}{arithmetic['batch']} pairs, {arithmetic['negatives_per_query']} "
        f"wrong targets a query, about {arithmetic['tokens_per_batch']:,} tokens a batch{budget}, graphs of at most "
        f"{arithmetic['cache_tokens']} tokens, up to about {arithmetic['memory_gb']} GB, {arithmetic['precision']}"
    )
    table = Table("task", "records", "batch", "steps", "epochs")
    for row in arithmetic["schedule"]:
        numbers = (row["records"], row["batch_size"], round(row["steps"], 2), f"{row['epochs']:.2f}")
        table.add_row(row["task"], *map(str, numbers))
    console.print(table)
    if idle := [row["task"] for row in arithmetic["schedule"] if not row["steps"]]:
        console.print(
            f"[yellow]warning[/yellow]: never drawn in {arithmetic['steps']} steps: {', '.join(idle)}; raise their "
            "rates, take more steps, or leave them out"
        )


def shrunk_batches(datamodule: CommonspaceDataModule) -> list[str]:
    """One line for each task whose batch holds all its records because it has fewer than a batch."""
    return [
        f"task {name}: {records} records to train on, so batches of {records} where {asked} were asked for: "
        f"{records - 1} wrong targets a query; more pairs help more than more steps"
        for name, (asked, records) in datamodule.shrunk.items()
    ]


def closing_line(output: str, scores: Mapping[str, float], run_id: str, skipped: Mapping[str, int]) -> str:
    """Where the model lies and what it scores on dev; skipped samples where there were any."""
    mean = f"dev MRR@10 {scores['mean']:.3f}" if "mean" in scores else "not scored: no dev pairs"
    line = f"{output}: saved; {mean}, run {run_id}"
    if skipped:
        by_task = ", ".join(f"{name} {count}" for name, count in sorted(skipped.items()))
        line += f"; {sum(skipped.values())} samples skipped ({by_task}), each named in the log"
    return line


def model_card(plain: Mapping[str, Any], run_id: str, scores: Mapping[str, float]) -> str:
    """README.md of a model folder: what it is, how it was made, dev figures, how to use it, licences."""
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in scores.items() if not name.endswith(" gap"))
    drawn = [name for name, task in plain["data"]["tasks"].items() if task["rate"] > 0]
    before = card_sources(Path(plain["init"])) if plain["init"] else {}
    sources = merged([before, drawn_sources(place(plain["paths"]["data"]) / plain["data"]["tier"], drawn)])
    return f"""# {plain["name"]}

A commonspace embedder after stage `{plain["stage"]["name"]}` on tier `{plain["data"]["tier"]}`: text, images, audio,
video and documents, in any interleaving, to one unit vector of {plain["model"]["embedding_size"]} numbers.
Prefixes of {", ".join(map(str, plain["model"]["matryoshka_sizes"]))} numbers are embeddings too (renormalise them).

    from commonspace import Content, Embedder, Image
    model = Embedder.load("{Path(plain["output"]).name}")
    model.embed([Content("a red fox", Image("fox.jpg"))])

Run `{run_id}`, seed {plain["seed"]}, started from {plain["init"] or "the pretrained towers"}, tasks
{", ".join(drawn)}.

MRR@10 on dev (at most {plain["stage"]["dev_limit"]} records a task; dev chooses, it does not report):

| task | MRR@10 |
|---|---|
{rows}

{sources_section(sources)}"""
