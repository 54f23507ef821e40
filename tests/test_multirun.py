"""A sweep is refused before it starts where its jobs would overwrite one another."""

from __future__ import annotations

import pytest

from commonspace.commands import COMMANDS
from commonspace.errors import ConfigError
from commonspace.multirun import check_multirun, jobs


@pytest.mark.parametrize(
    "name, words, message",
    [
        (
            "train",
            ["seed=1,2,3"],
            r"'seed=1' and 'seed=2' would both write models/mini/pretrain; .*'name=NAME_\$\{seed\}'",
        ),
        ("train", ["experiment=mini/finetune_base", "stage.temperature=0.01,0.02"], r"\$\{stage.temperature\}"),
        ("train", ["seed=1,2", "name=a,b"], "'seed=1' and 'seed=2' would both write models/mini/a"),
        ("soup", ["ingredients=[a,b],[a,c]"], "would both write models/mini/soup"),
        ("mine", ["embedder=a,b"], "would both write data/negatives/mini"),
        ("evaluate", ["embedder=models/x", "seed=1,2"], "would both write docs/results/mini models/x"),
        ("data build own", ["pairs=a,b"], "would both write data own"),
    ],
)
def test_jobs_that_share_a_place(name: str, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_multirun(COMMANDS[name], ["-m", *words])


@pytest.mark.parametrize(
    "name, words",
    [
        ("train", ["-m", "seed=1,2", "name=base_${seed}"]),
        ("train", ["-m", "experiment=mini/finetune_base,mini/finetune_cold"]),
        ("train", ["-m", "data=pretrain,pretrain_tiny"]),
        ("train", ["--multirun", "launcher=slurm", "seed=range(1,3)", "output=models/x/${seed}"]),
        ("train", ["seed=1"]),
        ("train", ["-m", "seed=1"]),
        ("train", ["-m", "stage.temperature=interval(0.01,0.1)"]),
        ("evaluate", ["-m", "embedder=models/x,models/y"]),
        ("data fetch", ["-m", "data.tier=tiny,mini"]),
    ],
)
def test_jobs_with_places_of_their_own(name: str, words: list[str]) -> None:
    check_multirun(COMMANDS[name], words)


def test_what_hydra_cannot_read_is_one_message() -> None:
    with pytest.raises(ConfigError, match="seed"):
        check_multirun(COMMANDS["train"], ["-m", "seed=[1,2"])


def test_jobs_are_every_combination() -> None:
    assert jobs(["a=1,2", "b=x", "c='p,q',r"]) == [
        ["a=1", "b=x", "c='p,q'"],
        ["a=1", "b=x", "c=r"],
        ["a=2", "b=x", "c='p,q'"],
        ["a=2", "b=x", "c=r"],
    ]
