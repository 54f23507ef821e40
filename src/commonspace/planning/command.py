"""`commonspace plan`: what a training costs before it runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def main(arguments: Sequence[str]) -> int:
    """Print the plan of a `train` config: `commonspace plan experiment=mini/pretrain --gpu h100 --gpus 8 64`."""
    parser = argparse.ArgumentParser("commonspace plan", description="What a training costs, before it runs.")
    parser.add_argument("words", nargs="*", metavar="key=value", help="as you would type it after commonspace train")
    parser.add_argument("--gpu", default="h100", help="a kind of GPU; docs/planning.md says where they are listed")
    parser.add_argument("--gpus", nargs="+", type=int, default=[8, 16, 32, 64, 128, 256], metavar="N", help="how many")
    parser.add_argument(
        "--utilisation", type=float, default=0.35, help="share of the GPU's bfloat16 peak; an assumption"
    )
    parser.add_argument("--json", action="store_true", help="the plan as JSON")
    options = parser.parse_intermixed_args(list(arguments))

    from commonspace.config_values import resolved
    from commonspace.configuration import compose
    from commonspace.planning.plan import make_plan

    words = [word for word in options.words if word != "train"]
    config = compose("train", words)
    plain = resolved(config)
    plan = make_plan(plain, gpu=options.gpu, gpus=options.gpus, utilisation=options.utilisation)
    if options.json:
        print(json.dumps(plan, indent=1))
    else:
        _print(plan)
    return 0


def _print(plan: Mapping[str, Any]) -> None:
    from rich.console import Console

    console, model, totals = Console(), plan["model"], plan["totals"]
    console.print(
        f"{_short(model['parameters'])} parameters, {_short(model['trained'])} of them train; sizes: {model['sizes']}; "
        f"{plan['batches']['steps']:,} steps, {_short(totals['rows'])} rows, {_short(totals['tokens'])} tokens, "
        f"{totals['flops']:.3g} FLOPs",
        soft_wrap=True,
    )
    for table in (_samples(plan), _by_modality(plan), _batches(plan), _memory(plan), _hours(plan)):
        console.print(table)
    if not model["memory shown"]:
        console.print("activations of this kind of model were never held against a real step: its memory is a guess")
    storage = plan["storage"]
    console.print(
        f"storage: {storage['GB of records']:,.0f} GB of records, of which the run reads {storage['GB read']:,.0f} GB; "
        f"hours assume {plan['gpu']['utilisation']:.0%} of {plan['gpu']['teraflops']} TFLOP/s; "
        "unchecked: the GPU's figures and whatever is told by public.yaml or architectures.yaml",
        soft_wrap=True,
    )


def _samples(plan: Mapping[str, Any]) -> Table:
    from rich.table import Table

    table = Table("task", "made of", "tokens", "GFLOPs forwards", "text", "vision", "audio", "in training", "rows like",
                  title="a row: query, positive and hard negatives")  # fmt: skip
    for name, row in plan["samples"].items():
        parts = [f"{row['forward'][part] / 1e9:,.1f}" for part in ("text", "vision", "audio")]
        whole = [f"{sum(row[kind].values()) / 1e9:,.1f}" for kind in ("forward", "training")]
        table.add_row(name, row["modalities"], f"{row['tokens']:,.0f}", whole[0], *parts, whole[1], f"{row['rows']}")
    return table


def _by_modality(plan: Mapping[str, Any]) -> Table:
    from rich.table import Table

    from commonspace.planning.samples import MODALITIES

    kinds = [kind for kind in MODALITIES if any(kind in row["by modality"] for row in plan["samples"].values())]
    table = Table(
        "task", *kinds, title="a row by modality: tokens, GFLOPs forwards with its share of the transformer's"
    )
    for name, row in plan["samples"].items():
        parts = [row["by modality"].get(kind) for kind in kinds]
        table.add_row(name, *(f"{one['tokens']:,.0f}, {one['forward'] / 1e9:,.1f}" if one else "" for one in parts))
    return table


def _batches(plan: Mapping[str, Any]) -> Table:
    from rich.table import Table

    table = Table("task", "share", "batch", "a device", "wrong targets", "tokens", "chunks", title="a batch")
    for name, row in plan["batches"]["tasks"].items():
        numbers = (row[key] for key in ("batch", "a device", "wrong targets", "tokens", "chunks"))
        table.add_row(name, f"{row['share']:.3f}", *(f"{number:,.0f}" for number in numbers))
    return table


def _memory(plan: Mapping[str, Any]) -> Table:
    from rich.table import Table

    uses = [use for use in next(iter(plan["memory"].values())) if use != "total"]
    table = Table("GPUs", *uses, "together", title=f"GB of a device, of {plan['gpu']['memory']}")
    for count, row in sorted(plan["memory"].items()):
        fits = "" if row["total"] / 1e9 <= plan["gpu"]["memory"] else "  too much"
        table.add_row(str(count), *(f"{row[use] / 1e9:.1f}" for use in uses), f"{row['total'] / 1e9:.1f}{fits}")
    return table


def _hours(plan: Mapping[str, Any]) -> Table:
    from rich.table import Table

    titles = ("GPUs", "GPU-hours", "days", "seconds a step", "rows a second and GPU", "MB a second and GPU")
    table = Table(*titles, title=f"on {plan['gpu']['name']}")
    for row in plan["hours"]:
        uneven = "" if row["even batches"] else " (a batch cannot be shared out evenly)"
        table.add_row(
            f"{row['gpus']}{uneven}", f"{row['gpu hours']:,.1f}", f"{row['days']:,.2f}", f"{row['seconds a step']:.2f}",
            f"{row['rows a second and GPU']:,.1f}", f"{row['MB a second and GPU']:,.1f}",
        )  # fmt: skip
    return table


def _short(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"
