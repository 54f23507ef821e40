"""Families of ablations: one command makes every cell, cells compose, differ in what they say and in their names."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from commonspace.commands import COMMANDS
from commonspace.config_values import resolved
from commonspace.configuration import compose, config_folder
from commonspace.data.rates import mixed, shares
from commonspace.errors import ConfigError
from commonspace.multirun import _parsed, check_multirun, jobs, swept

FAMILIES = sorted(path.stem for path in (config_folder() / "ablation").glob("*.yaml"))
BASES = {"generated": "mini_generated/cell"}  # of rows that the mini tier has not; of the others mini/cell
HEADLINES = {"temperature": 30, "leave_one_out": 15, "leave_one_out_rest": 18, "mixture": 24}


def cells(family: str) -> list[DictConfig]:
    """Every cell: the last as it composes, the others with their values put in its place."""
    asked = OmegaConf.load(config_folder() / "ablation" / f"{family}.yaml")["hydra"]["sweeper"]["params"]
    plain = OmegaConf.to_container(asked, resolve=False)
    known = {"${paths.models}": "models", "${data.tier}": "mini"}
    for place, value in known.items():
        plain = {key: str(given).replace(place, value) for key, given in plain.items()}
    params = [f"{key}={value}" for key, value in plain.items()]
    last = compose("train", [*jobs(params)[-1], f"experiment={BASES.get(family, 'mini/cell')}", f"ablation={family}"])
    found = []
    for job in jobs(params):
        config = last.copy()
        for word in job:
            OmegaConf.update(config, word.partition("=")[0], _parsed(word).value(), force_add=True)
        found.append(config)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_cells_at_full_scale(family: str) -> None:
    swept = OmegaConf.load(config_folder() / "ablation" / f"{family}.yaml")["hydra"]["sweeper"]["params"]
    words = jobs([f"{key}={value}" for key, value in OmegaConf.to_container(swept, resolve=False).items()])[0]
    longer = ["stage.steps=5500"] if family == "leave_one_out_rest" else []  # as its file says
    cell = compose("train", [*words, "experiment=full/cell", f"ablation={family}", *longer])
    assert (cell.data.tier, cell.save) == ("full", False) and family in cell.tags and cell.stage.steps >= 2000


@pytest.mark.parametrize("family", FAMILIES)
def test_every_cell_of_a_family_is_another_under_a_name_of_its_own(family: str) -> None:
    path = config_folder() / "ablation" / f"{family}.yaml"
    base = BASES.get(family, "mini/cell")
    assert path.read_text().splitlines()[1] == f"# commonspace train -m experiment={base} ablation={family}"
    found = cells(family)
    assert len(found) == HEADLINES.get(family, len(found)) >= 1
    names = {cell.name for cell in found}
    assert len(names) == len(found) and all(name.startswith(family) for name in names), names
    assert not any(character in name for name in names for character in " /[],${}"), "names are folders too"
    parts = ["stage", "data", "model", "objective", "seed", "init", "paths"]
    settings = {OmegaConf.to_yaml(OmegaConf.masked_copy(cell, parts), resolve=True) for cell in found}
    assert len(settings) == len(found), "two cells would train the same"
    assert all(list(cell.tags) == ["ablation", family] for cell in found)
    plain = [resolved(cell, ["data", "stage", "paths"]) for cell in found]
    assert all(mixed(one["data"], one["stage"])[1]["steps"] >= 150 for one in plain), "shorter cells show less"


def test_a_key_swept_twice_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="would both write"):
        check_multirun(COMMANDS["train"], ["-m", "experiment=mini/cell", "ablation=leave_one_out", "seed=1"])
    check_multirun(COMMANDS["train"], ["-m", "experiment=mini/cell", "ablation=stage_effect"])


def test_what_a_family_sweeps_comes_before_the_command_line() -> None:
    given = ["experiment=tiny/cell", "ablation=stage_effect", "hydra.sweeper.params.seed='1,2'"]
    assert swept("train", given) == ["init=models/tiny/align,models/tiny/pretrain", "seed=1,2"]


@pytest.mark.parametrize(
    "given, message",
    [
        (["experiment=mini/pretrain", "data.without=[video]"], "video is no medium of a task that is drawn"),
        (["experiment=mini/cell", "data.without=[text,image,audio,video,document]"], "leaves no task"),
        (["experiment=mini/cell", "data.concentration=2.0"], "data.concentration: has no effect"),
        (
            ["experiment=mini/cell", "data.dirichlet=1", "data.temperature=2.0"],
            "data.temperature draws",
        ),
        (["experiment=mini/cell", "data.dirichlet=1", "data.first_only=true"], "data.dirichlet: data.first_only"),
        (["experiment=mini/cell", "data.dirichlet=-1"], "data.dirichlet: -1 is outside"),
        (["experiment=mini/pretrain", "data.soundtrack=false"], "data.soundtrack: no task that is drawn has clips"),
        (["experiment=mini/cell", "ablation=soundtrack", "data.without=[video]", "data.soundtrack=false"], "has clips"),
        (
            ["experiment=mini/cell", "objective.mask=false", "objective.share_negatives=true"],
            "mask=false: .*share",
        ),
        (
            ["experiment=mini/cell", "ablation=negative_count", "data.negative_count=0"],
            "leaves nothing",
        ),
        (
            ["experiment=mini/pretrain", "ablation=temperature_modality"],
            "modality_temperatures.*no task",
        ),
        (["experiment=mini/pretrain", "ablation=temperature_task"], "no task of that name is drawn"),
        (
            ["experiment=mini/cell", "ablation=temperature_modality", "data.without=[video]"],
            "temperatures.video: no task",
        ),
    ],
)
def test_combinations_that_make_no_sense_are_refused(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("train", given)


@pytest.mark.parametrize("family", ["leave_one_out", "leave_one_out_rest"])
def test_leaving_out_is_what_it_says(family: str) -> None:
    found = cells(family)
    before = shares(OmegaConf.to_container(found[0].data.tasks, resolve=True))
    for cell in found:
        plain = resolved(cell, ["data", "stage", "paths"])
        data, stage = mixed(plain["data"], plain["stage"])
        out = set(plain["data"]["without"])
        assert set(shares(data["tasks"])) == set(before) - out
        rest = 1 - sum(before[medium] for medium in out)
        assert stage["steps"] == (round(410 * rest) if family.endswith("rest") else 150)
