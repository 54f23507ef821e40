"""Docstring -> function body, out of the wheels of sympy and networkx; nothing in them is imported."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.content import Content
from commonspace.data.sample import Record, Variant
from commonspace.errors import DataError
from data_prep.docstrings import Function, documented_functions
from data_prep.keys import record_key
from data_prep.source import Package, Source

_PASSED_OVER = frozenset({"tests", "testing", "benchmarks", "conftest.py"})


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`code` records; the concept is the module, so a module's functions are on one side of the split."""
    seen: set[bytes] = set()
    for package in ("networkx", "sympy"):
        root = folders[package]
        for path in sorted((root / package).rglob("*.py")):
            relative = path.relative_to(root)
            if _PASSED_OVER.intersection(relative.parts):
                continue
            for function in _functions(path, relative.as_posix(), drops):
                digest = hashlib.blake2b(function.body.encode(), digest_size=16).digest()
                if digest in seen:
                    drops["repeated function"] += 1
                    continue
                seen.add(digest)
                yield _record(package, ".".join(relative.with_suffix("").parts), function)


def _functions(path: Path, name: str, drops: Counter) -> Iterator[Function]:
    try:
        yield from documented_functions(path.read_text(encoding="utf-8", errors="replace"), name)
    except DataError:
        drops["module that cannot be parsed"] += 1


def _record(package: str, module: str, function: Function) -> Record:
    return Record(
        key=record_key("code", module, function.name, str(function.line)),
        task="code",
        source="code",
        concept=module,
        queries=(Variant(Content(function.docstring), "en"),),
        positives=(Variant(Content(function.body)),),
        extra={"package": package, "module": module, "function": function.name},
    )


SOURCE = Source(
    name="code",
    packages=(
        Package(
            client="pip",
            name="sympy",
            version="1.14.0",
            filename="sympy-1.14.0-py3-none-any.whl",
            sha256="e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5",
            bytes=6299353,
        ),
        Package(
            client="pip",
            name="networkx",
            version="3.6.1",
            filename="networkx-3.6.1-py3-none-any.whl",
            sha256="d47fbf302e7d9cbbb9e2555a0d267983d2aa476bac30e90dfbe5669bd57f3762",
            bytes=2068504,
        ),
    ),
    licence="BSD-3-Clause",
    provenance="sympy 1.14.0 and networkx 3.6.1, wheels from the Python package index",
    tiers=frozenset({"mini"}),
    records=records,
)
