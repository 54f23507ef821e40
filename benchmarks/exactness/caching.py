"""Gradient caching against a plain pass over the same chunks, for every parameter, in float64."""

from __future__ import annotations

from benchmarks.exactness.compare import Distance, distance
from benchmarks.exactness.subject import NotOffered, Subject

FLAGS = ("dropout", "mrl", "negatives", "checkpointing", "lora")
CASES = (frozenset(), *(frozenset({flag}) for flag in FLAGS), frozenset(FLAGS))


def name_of(case: frozenset[str]) -> str:
    """What a case has switched on."""
    return "all of them" if case == frozenset(FLAGS) else next(iter(case), "nothing")


def check(subject: Subject) -> dict[str, Distance | str]:
    """By case; what is not offered with its reason."""
    results: dict[str, Distance | str] = {}
    for case in CASES:
        try:
            if subject.caching is None:
                raise NotOffered("no caching")
            plain, cached = subject.caching(case)
            results[name_of(case)] = distance(cached, plain)
        except NotOffered as reason:
            results[name_of(case)] = str(reason)
    return results
