"""Sweep files for W&B's server: the commands that an agent would run compose."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from commonspace.configuration import compose, config_folder
from commonspace.multirun import jobs, swept

FOLDER = Path(__file__).parents[2] / "sweeps"
FILES = sorted(FOLDER.glob("*.yaml"))


def commands(sweep: dict) -> list[list[str]]:
    """The words an agent would run: its macro gives way to key=value words; a range stands by both its ends."""
    choices = [
        [(key, value) for value in told.get("values", [told.get("min"), told.get("max")])]
        for key, told in sweep["parameters"].items()
    ]
    return [
        [
            word
            for given in sweep["command"]
            for word in ([f"{k}={v}" for k, v in drawn] if given == "${args_no_hyphens}" else [given])
        ]
        for drawn in itertools.product(*choices)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_compose(path: Path) -> None:
    assert path.read_text().startswith(f"# wandb sweep sweeps/{path.name}\n")
    sweep = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    found = commands(sweep)
    assert all(words[:2] == ["commonspace", "train"] for words in found)
    first, last = (compose("train", words[2:]) for words in (found[0], found[-1]))
    assert first.logger.wandb.mode == "online" and first.name != last.name
    assert sweep["metric"]["name"] == "final/mean"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_wandb_itself_takes_the_file(path: Path) -> None:
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    assert load_sweep_config(str(path))["method"] in ("grid", "bayes")


@pytest.mark.parametrize("family", ["temperature", "mixture"])
def test_a_sweep_online_has_the_cells_of_the_family(family: str) -> None:
    sweep = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{family}.yaml"), resolve=False)
    online = {frozenset((k, float(v)) for k, _, v in map(_split, words[2:]) if k in sweep["parameters"])
              for words in commands(sweep)}  # fmt: skip
    given = ["experiment=mini/cell", f"ablation={family}"]
    offline = {frozenset((k, float(v)) for k, _, v in map(_split, job) if k not in ("experiment", "ablation"))
               for job in jobs([*swept("train", given), *given])}  # fmt: skip
    assert online == offline
    (name,) = [word for word in sweep["command"] if word.startswith("name=")]
    assert name == f"name={OmegaConf.load(config_folder() / f'ablation/{family}.yaml')._get_node('name')._value()}"


def _split(word: str) -> tuple[str, str, str]:
    return word.partition("=")
