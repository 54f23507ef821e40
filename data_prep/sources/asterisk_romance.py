"""Asterisk's telephone prompts in Spanish and Italian: read as the other languages are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from commonspace.data.sample import Record
from data_prep.source import Package, Reader, Source
from data_prep.sources import asterisk

_VERSION = "1.6.1-1"
_ENGLISH_TEXTS = next(
    package for source in asterisk.SOURCES for package in source.packages if package.name == "asterisk-core-sounds-en"
)


def _package(name: str, sha256: str, size: int) -> Package:
    return Package("apt", name, _VERSION, f"{name}_{_VERSION}_all.deb", sha256, size)


def _spanish(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    return asterisk.records_of("es", folders, drops)


def _italian(folders: Mapping[str, Path], drops: Counter) -> Iterator[Record]:
    return asterisk.records_of("it", folders, drops)


def _source(language: str, records: Reader, *packages: Package) -> Source:
    return Source(
        name=f"asterisk-{language}",
        packages=(*packages, _ENGLISH_TEXTS),
        licence="CC-BY-SA-3.0",
        provenance=f"Debian asterisk-core-sounds-{language} {_VERSION}: studio recordings with transcripts",
        tiers=frozenset({"full"}),
        records=records,
    )


SOURCES = (
    _source(
        "es",
        _spanish,
        _package("asterisk-core-sounds-es", "9afdab7f559f036649fb406e625899306ca1004df8ebe39c30bfbd5912d66f74", 22012),
        _package(
            "asterisk-core-sounds-es-gsm", "533b4c29e232cae99f89a6933b5fc0af5341514e513924df401c683e222614b7", 3004752
        ),
    ),
    _source(
        "it",
        _italian,
        _package("asterisk-core-sounds-it", "3884d9457e12f21caa018c18f0d587df5d53ebea14b673d8453a134c5941ab3b", 23972),
        _package(
            "asterisk-core-sounds-it-gsm", "fb6d6ce94502894714f00240c372a291bcaa4cd3e05fdf278780a4dd9edfabab", 2311332
        ),
    ),
)
