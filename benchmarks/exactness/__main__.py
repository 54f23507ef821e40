"""Run the checks and print their tables in Markdown."""

from __future__ import annotations

import argparse
import importlib.metadata
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.exactness import caching, gather, resume
from benchmarks.exactness.compare import EXACT, Distance
from benchmarks.exactness.subject import OURS, PEERS, Subject, find

HEAD = """# Is it exact?

Written by `python -m benchmarks.exactness --write docs/results/exactness.md`; what is checked, and how to point it at
another trainer, is in [docs/objectives.md](../objectives.md). {versions}. All in float64 on CPU; equal means that no
tensor is further off than {exact:g} of its norm.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exactness", description=__doc__)
    parser.add_argument("--subject", action="append", metavar="MODULE:NAME", help="what to check; more than one may be")
    parser.add_argument("--processes", type=int, default=2, help="of the gather check")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables there too")
    given = parser.parse_args()
    lines = list(report(given.subject or [OURS, *PEERS], given.processes))
    print("\n".join(lines))
    if given.write:
        given.write.write_text("\n".join(lines) + "\n")


def report(paths: list[str], world: int) -> Iterator[str]:
    """The page, line by line: gather, caching, resume."""
    subjects = {path: find(path) for path in paths}
    yield HEAD.format(versions=versions(), exact=EXACT)
    yield f"## Gather: {world} processes against one on the same global batch\n"
    yield "| trainer | loss | gradient's norm / the global mean's | cosine | largest relative error | equal |"
    yield "|---|---|---|---|---|---|"
    for path, subject in subjects.items():
        with tempfile.TemporaryDirectory() as folder:
            gathers = gather.check(path, world, Path(folder)) if subject.gathers else {}
        for name, found in gathers.items():
            yield f"| {subject.name} | {name} | {found.ratio:.4f} | {found.cosine:.4f} | {verdict(found)} |"
    yield "\n## Caching: cached gradients against a plain pass over the same chunks\n"
    yield "Largest relative error of any parameter's gradient, and that parameter where it is not equal.\n"
    yield from caching_table(list(subjects.values()))
    yield f"\n## Resume: stopped after {resume.STOP} of {resume.STEPS} steps and taken up again, with dropout\n"
    yield "| trainer | later steps with the same samples | largest relative error of the weights | equal |"
    yield "|---|---|---|---|"
    for subject in subjects.values():
        with tempfile.TemporaryDirectory() as folder:
            found = resume.check(subject, Path(folder))
        if isinstance(found, str):
            yield f"| {subject.name} | {found} | | not offered |"
        else:
            same = f"{found.same} of {found.later}"
            yield f"| {subject.name} | {same} | {found.weights.error:.1e} | {'yes' if found.exact else 'no'} |"


def caching_table(subjects: list[Subject]) -> Iterator[str]:
    columns = [caching.check(subject) for subject in subjects]
    yield "| switched on | " + " | ".join(subject.name for subject in subjects) + " |"
    yield "|---|" + "---|" * len(subjects)
    for case in columns[0]:
        yield f"| {case} | " + " | ".join(cell(column[case]) for column in columns) + " |"


def cell(found: Distance | str) -> str:
    if isinstance(found, str):
        return f"not offered: {found}"
    return f"{found.error:.1e}" + ("" if found.exact else f" (**{found.worst}**)")


def verdict(found: Distance) -> str:
    return f"{found.error:.1e} | {'yes' if found.exact else '**no**'}"


def versions() -> str:
    """The packages under test, with their versions."""
    names = ("torch", "sentence-transformers", "open-clip-torch")
    installed = {item.metadata["Name"]: item.version for item in importlib.metadata.distributions()}
    return ", ".join(f"{name} {installed[name]}" for name in names if name in installed)


if __name__ == "__main__":
    main()
