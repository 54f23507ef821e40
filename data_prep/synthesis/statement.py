"""The statement of a synthesis: what was asked, what it cost, what was kept; as JSON and as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_prep.synthesis.bill import Bill
    from data_prep.synthesis.run import Options
    from data_prep.synthesis.template import Template


@dataclass
class Result:
    """What came of the rows so far: `inputs` answered or failed, rows kept, and why others were not; `seen` are ids of
    queries and positives.
    """

    inputs: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    drops: Counter = field(default_factory=Counter)
    scores: Counter = field(default_factory=Counter)
    seen: set[tuple[int, int]] = field(default_factory=set)


def report(
    options: Options, template: Template, inputs: int, result: Result, bill: Bill, seconds: float
) -> dict[str, Any]:
    """Counts of inputs, requests and rows; `cost` is in the currency of the prices, None where one is not known.

    `cost` counts every answer that rows are made of, `new_cost` what this call asked for itself.
    """
    tallies = {purpose: tally.to_json() for purpose, tally in bill.tallies.items()}
    known = all(tally["cost"] is not None for tally in tallies.values())
    return {
        "template": template.name,
        "source": options.source,
        "model": options.generator.model,
        "rater": (options.rater.generator or options.generator).model if options.rater.threshold is not None else None,
        "threshold": options.rater.threshold,
        "inputs": {
            "asked about": result.inputs,
            "at most": inputs,
            "failed": len({f["input"] for f in result.failures}),
        },
        "requests": tallies,
        "cost": sum(tally["cost"] for tally in tallies.values()) if known else None,
        "new_cost": sum(tally["new_cost"] for tally in tallies.values()) if known else None,
        "rows": {"kept": len(result.rows), "dropped": dict(sorted(result.drops.items()))},
        "scores": {str(score): result.scores[score] for score in sorted(result.scores)},
        "failures": len(result.failures),
        "stopped": bill.stopped,
        "seconds": round(seconds, 1),
    }


def page(told: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    inputs, rows = told["inputs"], told["rows"]
    lines = [
        f"# Synthetic rows: {told['template']} of {told['source']}",
        "",
        f"{rows['kept']:,} rows by {told['model']} of {inputs['asked about']:,} input rows (of at most "
        f"{inputs['at most']:,}), in {told['seconds']:,} s. "
        + (f"Stopped early: {told['stopped']}." if told["stopped"] else "Not stopped early.")
        + (" The rows in pairs.jsonl are those of an earlier call." if told["pairs_of_earlier_call"] else ""),
        "",
        "| purpose | answers | asked now | failed | tokens in | tokens out | cost | of this call |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for purpose, tally in told["requests"].items():
        counts = [tally[name] for name in ("answers", "new", "failed", "input_tokens", "output_tokens")]
        cells = [*(f"{count:,}" for count in counts), _money(tally["cost"]), _money(tally["new_cost"])]
        lines.append(f"| {purpose} | {' | '.join(cells)} |")
    lines += [f"| all | | | | | | {_money(told['cost'])} | {_money(told['new_cost'])} |", ""]
    if unknown := sum(tally["without_usage"] for tally in told["requests"].values()):
        lines += [f"Of {unknown:,} answers the endpoint did not say how many tokens they took; they count as none.", ""]
    lines += ["| rows | |", "| --- | ---: |", f"| kept | {rows['kept']:,} |"]
    lines += [f"| dropped: {why} | {count:,} |" for why, count in rows["dropped"].items()]
    if told["threshold"] is not None:
        lines += [
            "",
            f"Rated by {told['rater']}, kept from {told['threshold']:g}:",
            "",
            "| score | rows |",
            "| --- | ---: |",
        ]
        lines += [f"| {score} | {count:,} |" for score, count in told["scores"].items()]
    if told["failures"]:
        lines += ["", f"{told['failures']:,} failures of {inputs['failed']:,} input rows: failures.jsonl."]
    return "\n".join(lines) + "\n"


def _money(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.4f}"
