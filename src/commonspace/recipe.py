"""`commonspace recipe mini`: the steps of configs/recipe as real commands, each run only when it is missing or changed.

A step's key is the hash of its command's resolved config and of its input files. It is skipped when that key and its
outputs are as they were after its last success, so an interrupted call goes on where it stopped, and a step that ran
again but wrote the same bytes leaves those after it alone.

A step comes after the steps named in `after`, and after every step one of whose outputs its own config names: who
starts from `models/mini/pretrain` needs no one to say that pretraining comes first.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonspace.commands import COMMANDS
from commonspace.errors import ConfigError, DataError
from commonspace.files import write_json
from commonspace.fingerprints import Fingerprints

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from commonspace.recipe_view import StepTable


@dataclass(frozen=True)
class Step:
    """One command of the recipe.

    words    the command line after `commonspace`
    inputs   files beside the outputs of earlier steps whose change calls for another run; "code:data_prep" names the
             sources of a package
    outputs  what it leaves behind (patterns of `Fingerprints`)
    after    steps that come first although the config does not name their outputs
    """

    name: str
    words: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The command's config, composed and checked, without what only hydra reads."""
        from commonspace.cli import overrides_of, split_command
        from commonspace.config_values import resolved
        from commonspace.configuration import compose

        command, rest = split_command(list(self.words))
        if command not in COMMANDS:
            raise ConfigError(f"recipe.steps.{self.name}: {command!r} is no command of a recipe")
        composed = compose(COMMANDS[command].root, overrides_of(command, rest))
        return resolved(composed)


def main(config: DictConfig) -> int:
    """Run the recipe, show it as it goes, and end with one table and the paths of what it made."""
    from commonspace.config_values import resolved
    from commonspace.recipe_view import StepTable, print_closing

    plain = resolved(config, ["paths", "recipe", "only", "again"])
    folder = Path(plain["paths"]["runs"]) / plain["recipe"]["tier"] / "recipe"
    recipe = Recipe(read_steps(plain["recipe"]["steps"], plain["paths"]), folder)
    chosen = recipe.chosen(plain["only"])
    for name in plain["again"]:
        recipe.step(name)
    with StepTable([step.name for step in chosen]) as table:
        recipe.run(chosen, table, again=plain["again"])
    print_closing(plain["recipe"]["tier"], {key: Path(value) for key, value in plain["paths"].items() if value})
    return 0


def read_steps(steps: Mapping[str, Mapping[str, Any]], paths: Mapping[str, str | None]) -> list[Step]:
    """Steps of a resolved config; a command gets the recipe's own `paths` where it names no other.

    Raises ConfigError for a step with unknown keys or without a command.
    """
    known = {"run", "inputs", "outputs", "after"}
    read = []
    for name, entry in steps.items():
        if entry is None:  # a recipe that builds on another may drop a step by `name: null`
            continue
        if set(entry) - known or not entry.get("run"):
            raise ConfigError(f"recipe.steps.{name}: takes {', '.join(sorted(known))}, and needs run")
        words = shlex.split(entry["run"])
        own = {word.partition("=")[0] for word in words}
        words += [
            f"paths.{key}={value}" for key, value in paths.items() if value is not None and f"paths.{key}" not in own
        ]
        lists = {key: tuple(entry.get(key) or ()) for key in ("inputs", "outputs", "after")}
        read.append(Step(name, tuple(words), **lists))
    return read


class Recipe:
    """Steps in an order that suits them, and what is known of their last success, in `folder`/state.json."""

    def __init__(self, steps: Sequence[Step], folder: Path) -> None:
        self.folder = folder
        self._steps = {step.name: step for step in steps}
        self.before = {step.name: self._before(step) for step in steps}
        self.order = self._order()
        self.files = Fingerprints(folder / "files.json")
        self.state: dict[str, Any] = {}
        if (folder / "state.json").is_file():
            try:
                self.state = json.loads((folder / "state.json").read_text())
            except ValueError as error:
                raise DataError(f"{folder / 'state.json'}: not JSON ({error}); delete it to run all steps") from error

    def step(self, name: str) -> Step:
        """A step by name; ConfigError lists the names where there is none."""
        if name not in self._steps:
            raise ConfigError(f"the recipe has no step {name!r}; it has {', '.join(self._steps)}")
        return self._steps[name]

    def chosen(self, only: Sequence[str] | None = None) -> list[Step]:
        """Steps in order; with `only`, those and whatever comes before them."""
        if only is None:
            return [self.step(name) for name in self.order]
        wanted, left = set(), list(only)
        while left:
            name = self.step(left.pop()).name
            if name not in wanted:
                wanted.add(name)
                left += self.before[name]
        return [self.step(name) for name in self.order if name in wanted]

    def run(self, steps: Sequence[Step], table: StepTable, *, again: Sequence[str] = ()) -> None:
        """Run what is missing or changed; the state is saved after every step.

        Raises DataError with the end of the log where a command fails or leaves an output out.
        """
        from commonspace.child import run_command

        for step in steps:
            key = self.key(step)
            if step.name not in again and self.is_current(step, key):
                last = self.state[step.name]
                table.skipped(step.name, last["seconds"], last["peak_bytes"])
                continue
            table.started(step.name)
            self.state.pop(step.name, None)
            log = self.folder / f"{step.name}.log"
            outcome = run_command(step.words, log, on_progress=lambda now, name=step.name: table.progress(name, now))
            problem = self._problem(step, outcome.status, outcome.tail)
            if problem:
                table.failed(step.name)
                raise DataError(problem)
            self._succeeded(step, key, outcome.seconds, outcome.peak_bytes)
            table.finished(step.name, outcome.seconds, outcome.peak_bytes)

    def key(self, step: Step) -> str:
        """Hash of the step's resolved config and of its input files."""
        inputs = {pattern: self.files.of(_located(pattern)) for pattern in step.inputs}
        for name in self.before[step.name]:
            inputs |= {pattern: self.files.of(pattern) for pattern in self.step(name).outputs}
        words = [word for word in step.words if not word.startswith("paths.")]
        text = json.dumps([words, step.config, inputs], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def is_current(self, step: Step, key: str) -> bool:
        """Whether the step's last success had this key and left just the outputs that lie there now."""
        last = self.state.get(step.name)
        return bool(last) and last["key"] == key and last["outputs"] == self._outputs(step)

    def _outputs(self, step: Step) -> dict[str, str | None]:
        return {pattern: self.files.of(pattern) for pattern in step.outputs}

    def _problem(self, step: Step, status: int, tail: str) -> str | None:
        log = self.folder / f"{step.name}.log"
        if status:
            return f"step {step.name} failed with exit status {status}; {log} ends:\n{tail}"
        if missing := [pattern for pattern, digest in self._outputs(step).items() if digest is None]:
            return f"step {step.name} ended well but left no {', '.join(missing)}; see {log}"
        return None

    def _succeeded(self, step: Step, key: str, seconds: float, peak_bytes: int) -> None:
        last = {"key": key, "outputs": self._outputs(step), "seconds": seconds, "peak_bytes": peak_bytes}
        self.state[step.name] = last
        write_json(self.folder / "state.json", self.state)
        self.files.save()

    def _before(self, step: Step) -> list[str]:
        for name in step.after:
            self.step(name)
        named = set(_strings({key: value for key, value in step.config.items() if key != "paths"}))
        makers = [
            other.name
            for other in self._steps.values()
            if other.name != step.name and any(output.removeprefix("exists:") in named for output in other.outputs)
        ]
        return sorted({*step.after, *makers})

    def _order(self) -> list[str]:
        """The order of the file, but nothing before what it needs. Raises ConfigError for a circle."""
        done: list[str] = []
        waiting = list(self._steps)
        while waiting:
            ready = next((name for name in waiting if set(self.before[name]) <= set(done)), None)
            if ready is None:
                raise ConfigError(f"recipe.steps: {', '.join(waiting)} wait for one another")
            done.append(ready)
            waiting.remove(ready)
        return done


def _located(pattern: str) -> str:
    """ "code:data_prep" as the folder of that package, wherever it is installed."""
    if not pattern.startswith("code:"):
        return pattern
    from importlib.util import find_spec

    name = pattern.removeprefix("code:")
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ConfigError(f"recipe input {pattern}: there is no package {name}")
    path = Path(found.origin)
    return f"{path.parent}/**/*.py" if path.name == "__init__.py" else str(path)


def _strings(value: Any) -> Iterator[str]:
    """Every text in a config, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _strings(inner)
