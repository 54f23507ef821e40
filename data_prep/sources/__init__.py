"""One module per source; each holds a `SOURCE`, or `SOURCES` where one package feeds several. Adding a file adds it."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from commonspace.errors import ConfigError, DataError
from data_prep.source import INCLUDED_TIERS, Source


@cache
def all_sources() -> dict[str, Source]:
    """Every source by name, in the order of their module names.

    Raises:
        DataError: a module holds no source, or two sources share a name.
    """
    found: dict[str, Source] = {}
    for module_name in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{module_name}")
        sources = getattr(module, "SOURCES", None) or (getattr(module, "SOURCE", None),)
        for source in sources:
            if not isinstance(source, Source):
                raise DataError(f"data_prep/sources/{module_name}.py defines neither SOURCE nor SOURCES; add one")
            if source.name in found:
                raise DataError(
                    f"data_prep/sources/{module_name}.py: a source named {source.name!r} exists; rename one"
                )
            found[source.name] = source
    return found


def sources_of(tier: str, only: list[str] | tuple[str, ...] | None = None) -> list[Source]:
    """The sources of a tier, or those of them that `only` names; those of tiers that it includes come first.

    Of two equal rows the first stays, so what a smaller tier has is not taken from it by a source it lacks.

    Raises:
        ConfigError: the tier has no source, or `only` names one that it does not have.
    """
    inner = {name: source for name, source in all_sources().items() if source.tiers & {*INCLUDED_TIERS.get(tier, ())}}
    found = inner | {name: source for name, source in all_sources().items() if tier in source.tiers}
    if not found:
        known = sorted({name for source in all_sources().values() for name in source.tiers})
        raise ConfigError(f"no source belongs to tier {tier!r}; tiers are {', '.join(known)}")
    unknown = sorted(set(only or ()) - set(found))
    if unknown:
        raise ConfigError(f"tier {tier} has no source {', '.join(unknown)}; it has {', '.join(found)}")
    return [source for name, source in found.items() if not only or name in only]
