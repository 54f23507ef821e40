"""`commonspace COMMAND ...`: finds the command's root config, lets hydra compose it, checks it, then does the work.

Nothing heavy is imported before a command is known and its config is sound: `--help` and a wrong option answer at once.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commonspace.commands import COMMANDS, PLAIN, Command
from commonspace.errors import CommonspaceError, ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_DEFAULT = re.compile(r"^  - (\w+): (\S+)", re.MULTILINE)  # a group of a root file, and its choice
_HYDRA_PAIRS = ("-c", "--cfg", "-p", "--package")  # hydra's own flags, whose value is no word of a command


def main(arguments: list[str] | None = None) -> int:
    """Run one command line; the exit status is 0, 1 for an error of the work, 2 for a command that does not exist."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return 0
    name, rest = split_command(arguments)
    if name in PLAIN:
        return _guard(lambda: _load(PLAIN[name][0])(rest))
    if name not in COMMANDS:
        print(f"commonspace: there is no command {name!r}; see commonspace --help", file=sys.stderr)
        return 2
    if asked := [place for place, word in enumerate(rest) if word in ("-h", "--help")]:
        groups = rest[asked[0] + 1 :]
        return _guard(lambda: print(group_help(name, groups) if groups else command_help(name)))
    return _guard(lambda: run_hydra(COMMANDS[name], overrides_of(name, rest)))


def split_command(arguments: list[str]) -> tuple[str, list[str]]:
    """The longest run of leading words that names a command, and what follows it."""
    for length in (3, 2, 1):
        name = " ".join(arguments[:length])
        if len(arguments) >= length and (name in COMMANDS or name in PLAIN):
            return name, arguments[length:]
    return " ".join(word for word in arguments[:2] if "=" not in word), arguments[2:]


def overrides_of(name: str, words: list[str]) -> list[str]:
    """Bare words and flags of a few commands (see `Command`) as overrides; everything else stays as it is.

    Raises ConfigError where a flag has nothing after it.
    """
    command, overrides, rest = COMMANDS[name], [], []
    expected, following = list(command.positional), iter(words)
    for word in following:
        if word in command.flags:
            key, what = command.flags[word]
            value = next(following, None)
            if value is None:
                raise ConfigError(f"{word}: needs a {what}")
            overrides.append(f"{key}={_quoted(value)}")
        elif word in _HYDRA_PAIRS:
            overrides += [word, *([value] if (value := next(following, None)) is not None else [])]
        elif (key := word.partition("=")[0]) in command.within and "=" in word:
            overrides.append(f"{command.within[key]}.{word}")
        elif "=" in word or word.startswith("-") or not (expected or command.rest):
            overrides.append(word)
        elif expected:
            key = expected.pop(0)
            overrides.append(f"{key}={word if key == 'recipe' else _quoted(word)}")
        else:
            rest.append(_quoted(word))
    return [*overrides, f"{command.rest}=[{','.join(rest)}]"] if rest else overrides


def run_hydra(command: Command, overrides: list[str]) -> int:
    """Hand overrides to hydra (`--cfg job`, `-m`, launchers and all); the work gets a checked config."""
    import hydra

    from commonspace.configuration import check_choices, check_config, config_folder
    from commonspace.models.replacing import check_replaceable
    from commonspace.multirun import check_multirun

    check_choices(command.root, overrides)
    check_multirun(command, overrides)
    os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")  # of SLURM jobs: the signal that a training saves at
    typed = list(sys.argv)

    def work(config: DictConfig) -> Any:
        sys.argv = typed  # a strategy that starts its own processes repeats this command line
        try:
            check_config(config, command.root)
            for option, kind in command.replaces.items():
                if config[option] is not None:
                    check_replaceable(Path(config[option]), kind, option)
            function = _load(command.target)
            if command.calls is None:
                return function(config)
            for arguments in command.calls(config):
                function(**arguments)
        except CommonspaceError as error:  # hydra would print a traceback
            if "SUBMITIT_EXECUTOR" in os.environ:  # who waits for the result of this job must learn of the error
                raise
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
    rows = {name: command.help for name, command in COMMANDS.items()}
    rows |= {name: text for name, (_, text) in PLAIN.items()}
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {text}" for name, text in rows.items()]
    closing = [
        "`commonspace COMMAND --help` shows a command's options, `--help GROUP` those of a group of configs;",
        "`--cfg job` prints its whole config;",
        "`-m key=a,b` runs it once for each value; `experiment=mini/pretrain` takes a prepared one.",
    ]
    return "\n".join(["usage: commonspace COMMAND [key=value ...]", "", *lines, "", *closing])


def command_help(name: str) -> str:
    """A command's root config as its file has it: the options, what they mean, and the groups to choose from."""
    from commonspace.configuration import config_folder

    folder, command = config_folder(), COMMANDS[name]
    text = (folder / f"{command.root}.yaml").read_text().split("\nhydra:")[0].rstrip()
    groups = sorted(path.name for path in folder.iterdir() if path.is_dir() and f"- {path.name}: " in text)
    choices = [f"  {group}: {', '.join(_choices(folder / group))}" for group in groups]
    words = "".join(f" [{word.upper()}]" for word in command.positional)
    words += f" [{command.rest.upper()} ...]" if command.rest else ""
    words += "".join(f" [{flag} {what.upper()}]" for flag, (_, what) in command.flags.items())
    usage = f"usage: commonspace {name}{words} [key=value ...]"
    closing = (
        f"`commonspace {name} --help {groups[-1]}` shows that group's options, `--help GROUP=CHOICE` those of a choice"
    )
    return "\n".join([usage, "", text, "", "groups:", *choices, "", closing])


def group_help(name: str, words: list[str]) -> str:
    """The options of groups of a command, `stage` or `stage=finetune`, as their files have them.

    A choice that builds on another comes after it. Raises ConfigError for a group or choice that does not exist.
    """
    from commonspace.configuration import config_folder

    folder = config_folder()
    groups = dict(_DEFAULT.findall((folder / f"{COMMANDS[name].root}.yaml").read_text()))
    parts: list[str] = []
    for word in words:
        group, _, choice = word.partition("=")
        if group not in groups:
            raise ConfigError(f"{name} has no group {group!r}; it has {', '.join(groups)}")
        known = _choices(folder / group)
        choice = choice or groups[group]
        if choice != "null" and choice not in known:
            raise ConfigError(f"{group} has no {choice!r}; it has {', '.join(known)}")
        parts += [f"choices of {group}: {', '.join(known)}", ""]
        for one in _bases(folder / group, choice) if choice != "null" else ():
            parts += [f"# ---- {group}={one}", (folder / group / f"{one}.yaml").read_text().rstrip(), ""]
    return "\n".join(parts).rstrip()


def _bases(folder: Path, choice: str) -> list[str]:
    """A choice of a group after those of the same group that it builds on."""
    text = (folder / f"{choice}.yaml").read_text()
    inline = re.search(r"^defaults: \[(.*)\]", text, re.MULTILINE)
    names = re.split(r",\s*", inline.group(1)) if inline else re.findall(r"^  - (\w+)$", text, re.MULTILINE)
    own = [name for name in names if (folder / f"{name}.yaml").is_file()]
    return [*(before for name in own for before in _bases(folder, name)), choice]


def _choices(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def _quoted(word: str) -> str:
    """A word that hydra's grammar reads as one string, whatever characters it has."""
    return "'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _load(target: str) -> Callable[..., Any]:
    module, function = target.split(":")
    return getattr(importlib.import_module(module), function)


def _guard(work: Callable[[], Any]) -> int:
    """Errors made for users print as one line, without a traceback."""
    try:
        return int(work() or 0)
    except CommonspaceError as error:
        print(f"commonspace: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
