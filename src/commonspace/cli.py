"""`commonspace COMMAND ...`: finds the command's root config, lets hydra compose it, checks it, then imports the work.

Nothing heavy is imported before a command is known and its config is sound, so `--help` and a wrong option answer at once.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commonspace.errors import CommonspaceError, ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Command:
    """A command: its root config, the function that takes the composed config, and a line of help."""

    root: str
    target: str  # "module:function"
    help: str


COMMANDS = {
    "recipe": Command("recipe", "commonspace.recipe:main", "everything from nothing to a table: `commonspace recipe mini`"),
    "data fetch": Command("data_fetch", "commonspace.preparation:fetch", "download a tier's packages and the pretrained towers"),
    "data build": Command("data_build", "commonspace.preparation:build", "make shards of what was fetched"),
    "data build own": Command("data_build_own", "commonspace.preparation:build_own", "make shards of your own PAIRS.jsonl"),
    "data features": Command("data_features", "commonspace.data.features:main", "cache the outputs of the frozen towers"),
    "data report": Command("data_report", "commonspace.preparation:report", "write what each source gives to data.md"),
    "data pack": Command("data_pack", "commonspace.preparation:pack", "one tar of a tier's shards, to carry away"),
    "train": Command("train", "commonspace.stages.train:train", "one stage: pretrain or fine-tune"),
    "mine": Command("mine", "commonspace.mining.run:main", "find hard negatives with a model"),
    "soup": Command("soup", "commonspace.stages.soup:soup", "average models, uniformly and greedily on dev"),
    "evaluate": Command("evaluate", "commonspace.evaluation.run:main", "score a model or a baseline on the held-out suite"),
    "embed": Command("embed", "commonspace.embed:main", "vectors of your own contents"),
}  # fmt: skip
PLAIN = {
    "runs": ("commonspace.tracking.runs:main", "list the runs on this disk, filtered"),
    "doctor": ("commonspace.doctor:main", "what this machine has, what is missing, and how to get it"),
}
_POSITIONAL = {"recipe": ("tier",), "data build own": ("pairs",)}  # words that may come without "key="


def main(arguments: list[str] | None = None) -> int:
    """Run one command line; the exit status is 0, 1 for an error of the work, 2 for a wrong command line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    name, rest = split_command(arguments)
    if name in PLAIN:
        return _guard(lambda: _load(PLAIN[name][0])(rest))
    if name not in COMMANDS:
        print(f"commonspace: no command {' '.join(arguments[:2])!r}; see commonspace --help", file=sys.stderr)
        return 2
    if any(word in ("-h", "--help") for word in rest):
        print(command_help(name))
        return 0
    return _guard(lambda: run_hydra(name, named(name, rest)))


def split_command(arguments: list[str]) -> tuple[str, list[str]]:
    """The longest run of leading words that names a command, and what follows it."""
    for length in (3, 2, 1):
        name = " ".join(arguments[:length])
        if len(arguments) >= length and (name in COMMANDS or name in PLAIN):
            return name, arguments[length:]
    return " ".join(arguments[:2]), arguments[2:]


def named(command: str, words: list[str]) -> list[str]:
    """Bare words of a few commands, and `--archives FOLDER`, as overrides; everything else stays as it is."""
    expected, named_words, following = list(_POSITIONAL.get(command, ())), [], iter(words)
    for word in following:
        if word == "--archives" and command == "data fetch":
            named_words.append(f"archives={_quoted(next(following, ''))}")
        elif expected and "=" not in word and not word.startswith("-"):
            named_words.append(f"{expected.pop(0)}={_quoted(word)}")
        else:
            named_words.append(word)
    return named_words


def run_hydra(name: str, overrides: list[str]) -> int:
    """Hand the command line to hydra (overrides, `--cfg job`, `-m`, launchers); the work runs in a checked config."""
    import hydra

    from commonspace.configuration import check_config, config_folder

    command = COMMANDS[name]
    typed = list(sys.argv)

    def work(config: DictConfig) -> float | None:
        sys.argv = typed  # a strategy that starts its own processes repeats this command line
        try:
            check_config(config, command.root)
            return _load(command.target)(config)
        except CommonspaceError as error:  # hydra would print a traceback
            print(f"commonspace: {type(error).__name__}: {error}", file=sys.stderr)
            raise SystemExit(1) from error

    work.__module__ = __name__
    sys.argv = [typed[0], *overrides]  # hydra reads its overrides from there
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=command.root)(work)()
    finally:
        sys.argv = typed
    return 0


def help_text() -> str:
    """The list of commands."""
    rows = {**{name: command.help for name, command in COMMANDS.items()}, **{name: text for name, (_, text) in PLAIN.items()}}
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {text}" for name, text in rows.items()]
    return "\n".join(
        ["usage: commonspace COMMAND [key=value ...]", "", "commands:", *lines, "",
         "`commonspace COMMAND --help` lists a command's options; `--cfg job` prints its whole config;",
         "`-m key=a,b` runs it once for each value; `experiment=mini/pretrain` takes a prepared one."]
    )  # fmt: skip


def command_help(name: str) -> str:
    """A command's root config as it stands in its file, comments and all: its options with what they mean."""
    from commonspace.configuration import config_folder

    folder = config_folder()
    text = (folder / f"{COMMANDS[name].root}.yaml").read_text().split("\nhydra:")[0].rstrip()
    groups = sorted(path.name for path in folder.iterdir() if path.is_dir() and f"- {path.name}: " in text)
    choices = [f"{group}: {', '.join(_choices(folder / group))}" for group in groups]
    return "\n".join([f"usage: commonspace {name} [key=value ...]", "", text, "", "groups:", *(f"  {c}" for c in choices)])


def _choices(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def _quoted(word: str) -> str:
    if not word:
        raise ConfigError("--archives: needs a folder")
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _load(target: str):
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)


def _guard(work) -> int:
    """Errors made for users print as one line, without a traceback."""
    try:
        result = work()
    except CommonspaceError as error:
        print(f"commonspace: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


if __name__ == "__main__":
    sys.exit(main())
