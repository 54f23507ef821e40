"""mteb's benchmarks as suites, and a job's share of their tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from commonspace.errors import ConfigError
from commonspace.evaluation.mteb.heldout import heldout_tasks
from commonspace.evaluation.suite import Suite

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

HELDOUT = "heldout"  # the name of our own suite


@dataclass(frozen=True)
class Chosen:
    """Tasks of a suite by benchmark, how many each benchmark has in all, and what was left out: {task: why}."""

    benchmarks: Mapping[str, Sequence[AbsTask]]
    sizes: Mapping[str, int]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> list[AbsTask]:
        """Every task once, in order of name; one that two benchmarks take other parts of counts for each."""
        found: dict[tuple[str, Any], AbsTask] = {}
        for tasks in self.benchmarks.values():
            for task in tasks:
                found.setdefault((task.metadata.name, (tuple(task.hf_subsets), tuple(task.eval_splits))), task)
        return [found[key] for key in sorted(found, key=str)]


def choose(
    options: Mapping[str, Any], modalities: Sequence[str], heldout: Suite | None = None, names: Sequence[str] = ()
) -> Chosen:
    """The tasks of a suite's config that a model of `modalities` can be asked.

    options  {"benchmarks": names of mteb's benchmarks}; `heldout` stands for the benchmark of that name
    names    of these tasks only; ConfigError for one that the suite does not have
    A benchmark that mteb does not know is a ConfigError.
    """
    left_out: dict[str, str] = {}
    found: dict[str, list[AbsTask]] = {}
    sizes: dict[str, int] = {}
    for name in options["benchmarks"]:
        if name != HELDOUT:
            found[name] = list(_benchmark(name).tasks)
        elif heldout is not None:
            found[name], unfit = heldout_tasks(heldout)
            left_out |= unfit
            sizes[name] = len(unfit)
    every = [task for tasks in found.values() for task in tasks]
    if unknown := sorted(set(names) - {task.metadata.name for task in every}):
        raise ConfigError(f"tasks: {', '.join(unknown)} is no task of {', '.join(options['benchmarks'])}")
    left_out |= {
        task.metadata.name: f"needs {_missing(task, modalities)}" for task in every if _missing(task, modalities)
    }
    sizes = {name: sizes.get(name, 0) + len(tasks) for name, tasks in found.items()}
    return Chosen({name: _asked(tasks, modalities, names) for name, tasks in found.items()}, sizes, left_out)


def _asked(tasks: Sequence[AbsTask], modalities: Sequence[str], names: Sequence[str]) -> list[AbsTask]:
    return [one for one in tasks if not _missing(one, modalities) and (not names or one.metadata.name in names)]


def share_of(tasks: Sequence[AbsTask], share: int, shares: int) -> list[AbsTask]:
    """Every `shares`-th task from `share` on; all shares together are all tasks, none twice."""
    if not 0 <= share < shares:
        raise ConfigError(f"share={share}: shares={shares} are numbered from 0 to {shares - 1}")
    return list(tasks[share::shares])


def _missing(task: AbsTask, modalities: Sequence[str]) -> str:
    return ", ".join(sorted(set(task.metadata.modalities) - set(modalities)))


def _benchmark(name: str) -> Any:
    import mteb

    try:
        return mteb.get_benchmark(name)
    except KeyError as error:
        raise ConfigError(f"suite.benchmarks: {error.args[0]}") from error
