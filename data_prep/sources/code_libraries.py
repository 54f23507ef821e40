"""Docstring -> function body out of more Python libraries, all under permissive licences; nothing is imported.

Wheels are pinned for one platform, whatever machine this is: only their Python files are read.
"""

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

_NAME = "code-libraries"
_PASSED_OVER = frozenset({"tests", "test", "testing", "benchmarks", "conftest.py", "_vendor", "extern", "externals"})
# Distribution, folder of its code where that has another name, version, file, sha256, bytes.
_MAC = "cp311-cp311-macosx_1{}_0_arm64.whl"
_WHEELS = (
    ("astropy", "6.1.7", _MAC.format(1), "072f62a67992393beb016dc80bee8fb994fda9aa69e945f536ed8ac0e51291e6", 6409477),
    (
        "Django",
        "5.1.4",
        "py3-none-any.whl",
        "236e023f021f5ce7dee5779de7b286565fdea5f4ab86bae5338e3f7b69896cf0",
        8276471,
    ),
    ("mne", "1.9.0", "py3-none-any.whl", "c26da9ac59bce963c5b25a3be9f5f61dd128f980cdc178a6fceef27743734306", 7392868),
    ("nltk", "3.9.1", "py3-none-any.whl", "4fa26829c5b00715afe3061398a8989dc643b92ce7dd93fb4585a70930d168a1", 1505442),
    ("numpy", "1.26.4", _MAC.format(1), "edd8b5fe47dab091176d21bb6de568acdd906d1887a4584a15a9a96a1dca06ef", 13997127),
    ("pandas", "2.2.3", _MAC.format(1), "7c2875855b0ff77b2a64a0365e24455d9990730d6431b9e0ee18ad8acee13dbd", 11321274),
    (
        "scikit_learn",
        "1.5.2",
        _MAC.format(2),
        "1ff45e26928d3b4eb767a8f14a9a6efbf1cbff7c05d1fb0f95f211a89fd4f5de",
        10975994,
    ),
    ("scipy", "1.14.1", _MAC.format(2), "c0ee987efa6737242745f347835da2cc5bb9f1b42996a4d97d5c7ff7928cb6f2", 29894570),
    (
        "statsmodels",
        "0.14.4",
        _MAC.format(1),
        "f5f537f7d000de4a1708c63400755152b862cd4926bb81a86568e347c19c364b",
        9912219,
    ),
    ("timm", "1.0.12", "py3-none-any.whl", "6b2770674213f10b7f193be5598ce48bd010ab21cc8af77dba6aeef58b1298a1", 2351767),
    (
        "torch",
        "2.5.1",
        "cp311-none-macosx_11_0_arm64.whl",
        "31f8c39660962f9ae4eeec995e3049b5492eb7360dd4f07377658ef4d728fa4c",
        63884466,
    ),
    (
        "xarray",
        "2024.11.0",
        "py3-none-any.whl",
        "6ee94f63ddcbdd0cf3909d1177f78cdac756640279c0e32ae36819a89cdaba37",
        1231951,
    ),
)
_FOLDERS = {"Django": "django", "scikit_learn": "sklearn"}
_PACKAGES = tuple(
    Package("pip", name, version, f"{name}-{version}-{end}", sha256, size)
    for name, version, end, sha256, size in _WHEELS
)


def records(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    """`code` records; the concept is the module, so a module's functions are on one side of the split."""
    seen: set[bytes] = set()
    for package in _PACKAGES:
        root = folders[package.name]
        folder = root / _FOLDERS.get(package.name, package.name)
        if not folder.is_dir():
            raise DataError(f"{_NAME}: {root} holds no {folder.name}; delete it and build again")
        for path in sorted(folder.rglob("*.py")):
            relative = path.relative_to(root)
            if _PASSED_OVER.isdisjoint(relative.parts):
                yield from _of_module(package.name, path, relative, seen, drops)


def _of_module(package: str, path: Path, relative: Path, seen: set[bytes], drops: Counter) -> Iterator[Record]:
    module = ".".join(relative.with_suffix("").parts)
    try:
        functions = list(documented_functions(path.read_text(encoding="utf-8", errors="replace"), relative.as_posix()))
    except DataError:
        drops["module that cannot be parsed"] += 1
        return
    for function in functions:
        digest = hashlib.blake2b(function.body.encode(), digest_size=16).digest()
        if digest in seen:
            drops["repeated function"] += 1
            continue
        seen.add(digest)
        yield _record(package, module, function)


def _record(package: str, module: str, function: Function) -> Record:
    return Record(
        key=record_key(_NAME, module, function.name, str(function.line)),
        task="code",
        source=_NAME,
        concept=module,
        queries=(Variant(Content(function.docstring), "en"),),
        positives=(Variant(Content(function.body)),),
        extra={"package": package, "module": module, "function": function.name},
    )


SOURCE = Source(
    name=_NAME,
    packages=_PACKAGES,
    licence="BSD-3-Clause (torch, numpy, scipy, pandas, scikit-learn, ...), Apache-2.0 (timm, nltk, xarray)",
    provenance="Python files of twelve libraries, wheels from the Python package index",
    tiers=frozenset({"full"}),
    records=records,
)
