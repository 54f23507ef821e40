"""Where configs lie, how they compose, and what is refused before anything loads.

The YAML files are the schema: a key exists if a root file or a group file names it, and its value keeps the type it has
there. Experiments, debug files and overrides may change values, never invent keys. Hydra alone would let `+key=1` and
a typing error in an experiment file pass in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from commonspace.commands import COMMANDS
from commonspace.config_values import resolved
from commonspace.errors import ConfigError

_DELTAS = ("experiment", "ablation", "debug", "launcher")  # groups that change values and define none
# Its alternative is given; the tower is left out; the rule is not applied.
_OR_NULL = (
    "stage.token_budget",
    "rival.negatives",
    "model.vision",
    "model.audio",
    "margin",
    "near.image",
    "near.text",
    "near.sound",
)
# Of these the user names the keys.
_NAMED_BY_USER = (
    *("stage.task_temperatures", "stage.modality_temperatures", "stage.task_text_dropout"),
    *("recipe.steps", "methods", "models"),
)


def _results_folder(*given: Any) -> str:
    """`${results_folder:DOCS,RUNS,TIER,SPLIT,LIMIT}` of the evaluations' configs."""
    from commonspace.evaluation.places import results_folder

    return results_folder(*given)


def _sweep_or(name: str) -> str:
    """`${sweep_or:NAME}`: the sweep that a job is part of, NAME for a lone run; of the logger's group."""
    from commonspace.tracking.identity import sweep_name

    return sweep_name() or name


def _in_words(value: Any) -> str:
    """`${in_words:VALUE}`: a list joined by dashes, of a path its last part; for names of runs."""
    values = list(value) if isinstance(value, ListConfig) else [value] if value is not None else []
    return "-".join(str(one).rstrip("/").split("/")[-1] for one in values) or "none"


OmegaConf.register_new_resolver("in_words", _in_words, replace=True)
OmegaConf.register_new_resolver("times", lambda factor, value: float(factor) * float(value), replace=True)
OmegaConf.register_new_resolver("sweep_or", _sweep_or, replace=True)
OmegaConf.register_new_resolver("results_folder", _results_folder, replace=True)


def config_folder() -> Path:
    """The folder with the YAML files: beside the sources of an editable checkout, else inside the installed package.

    Raises ConfigError where neither is there.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parents[1] / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError(f"no configs beside {package}; reinstall commonspace, or run it from a whole checkout")


def compose(root: str, overrides: Sequence[str] = (), *, check: bool = True, with_hydra: bool = False) -> DictConfig:
    """The config of a root file such as "train", overrides applied and checked; for notebooks, tests and the recipe.

    `with_hydra` keeps hydra's own settings in it, a sweeper's parameters and the launcher's options among them, and
    goes with `check=False`. Raises ConfigError naming the root and what was wrong.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    check_choices(root, overrides)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            config = hydra_compose(root, overrides=list(overrides), return_hydra_config=with_hydra)
    except HydraException as error:
        raise ConfigError(f"{root}: {error}") from error
    if check:
        check_config(config, root)
    return config


def check_choices(root: str, words: Sequence[str]) -> None:
    """Refuse experiments and choices of groups that are another command's, before hydra advises `+suite=code`.

    An experiment names its command in its second line. Raises ConfigError with the command to run instead.
    """
    folder = config_folder()
    for word in words:
        group, _, choice = word.lstrip("+").partition("=")
        if group == "experiment":
            for one in re.split(r"[\[\],]", choice):
                owner = _experiment_root(folder / "experiment" / f"{one}.yaml")
                if owner not in (None, root):
                    raise ConfigError(
                        f"{group}={one} is no experiment of `{_command(root)}`; run `{_command(owner)} {group}={one}`"
                    )
        elif choice and (folder / group).is_dir() and group not in {*_groups(folder, root), *schema(root)}:
            known = {one: (folder / group / f"{one}.yaml").is_file() for one in choice.split(",")}
            given = ",".join(one if there else one.split("/")[-1] for one, there in known.items())  # of mteb/code code
            roots = sorted(path.stem for path in folder.glob("*.yaml") if group in _groups(folder, path.stem))
            near = [one for one in roots if one.startswith(f"{root}_")] or roots
            if near:
                meant = " or ".join(f"`{_command(one)} {group}={given}`" for one in near)
                raise ConfigError(f"{word}: `{_command(root)}` has no group {group}; run {meant}")


def _command(root: str | None) -> str:
    names = {command.root: name for name, command in COMMANDS.items()}
    return f"commonspace {names[str(root)]}"


def _experiment_root(file: Path) -> str | None:
    """The root config of the command in an experiment's second line; None where there is none."""
    if not file.is_file():
        return None
    told = re.match(r"[^\n]*\n# commonspace ((?:\w+ )+)", file.read_text())
    command = COMMANDS.get(told[1].strip()) if told else None
    return command.root if command else None


def _groups(folder: Path, root: str) -> set[str]:
    """The groups of configs that a root file chooses from."""
    entries = _read(folder / f"{root}.yaml").get("defaults", [])
    return {next(iter(one)).removeprefix("override ").lstrip("/") for one in entries if isinstance(one, dict)}


def check_config(config: DictConfig, root: str) -> None:
    """Refuse unknown keys, values of another type, missing values and options that contradict one another.

    Raises ConfigError that lists every finding, each with its key.
    """
    from commonspace.contradictions import contradictions

    plain = {key: value for key, value in OmegaConf.to_container(config, resolve=False).items() if key != "hydra"}
    findings = list(_compare(plain, schema(root), ""))
    findings += [f"{key}: needs a value; give it as {key}=..." for key in sorted(OmegaConf.missing_keys(config))]
    if not findings:
        findings += contradictions(resolved(config))
    if findings:
        raise ConfigError(f"{root}: " + "; ".join(findings))


@cache
def schema(root: str) -> dict[str, Any]:
    """Every key a root file and its groups define, each with the values that its YAML files give it.

    Leaves are lists of values; `check_config` takes the types from them.
    """
    folder = config_folder()
    body = _read(folder / f"{root}.yaml")
    keys: dict[str, Any] = {}
    for entry in body.pop("defaults", []):
        if not isinstance(entry, dict):
            continue
        group = next(iter(entry)).removeprefix("override ").lstrip("/")
        if group.split("/")[0] not in _DELTAS and (folder / group).is_dir():
            for file in sorted((folder / group).glob("*.yaml")):
                _merge(keys.setdefault(group, {}), _read(file))
            keys[group].pop("defaults", None)
    _merge(keys, {key: value for key, value in body.items() if key != "hydra"})
    return keys


@cache
def task_schema() -> dict[str, Any]:
    """The keys of one entry of data.tasks, from configs/task."""
    keys: dict[str, Any] = {}
    for file in sorted((config_folder() / "task").glob("*.yaml")):
        _merge(keys, _read(file))
    return keys


def _read(file: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(file), resolve=False)


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            node = into.get(key)
            if not isinstance(node, dict):
                node = into[key] = {"": node} if isinstance(node, list) else {}
            _merge(node, value)
        elif isinstance(into.get(key), dict):
            into[key].setdefault("", []).append(value)  # a mapping that may also be null, as `wandb: null`
        else:
            into.setdefault(key, []).append(value)


def _compare(values: dict[str, Any], keys: dict[str, Any], prefix: str) -> Iterable[str]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if name == "data.tasks" and isinstance(value, dict):
            for task, entry in value.items():
                yield from _compare(entry or {}, task_schema(), f"{name}.{task}.")
        elif name in _NAMED_BY_USER or (value is None and name in _OR_NULL):
            continue
        elif key not in keys or key == "":
            known = ", ".join(sorted(k for k in keys if k))
            yield f"{name}: unknown option; known here: {known}"
        elif isinstance(value, dict) and isinstance(keys[key], dict):
            yield from _compare(value, keys[key], f"{name}.")
        else:
            examples = keys[key].get("", []) if isinstance(keys[key], dict) else keys[key]
            if not _fits(value, examples):
                wanted = " or ".join(sorted({_kind(example) for example in examples})) or "a mapping"
                yield f"{name}: {value!r} is {_kind(value)}, expected {wanted}"


def _fits(value: Any, examples: list[Any]) -> bool:
    """A value fits when an example is of its kind; where every example is null or missing, anything does."""
    kinds = {_kind(example) for example in examples}
    if not kinds - {"null", "text to fill in"}:
        return bool(kinds)
    if isinstance(value, str) and ("${" in value or value == "???"):
        return True  # interpolations are resolved later
    return (
        _kind(value) in kinds
        or (value is None and "null" in kinds)
        or (_kind(value) == "an integer" and "a number" in kinds)
    )


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if value == "???":
        return "text to fill in"
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a mapping",
    }
    return names[type(value)]
