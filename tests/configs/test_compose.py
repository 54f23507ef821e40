"""Every YAML file composes, is what its first lines say, and passes the checks."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from commonspace.cli import overrides_of, split_command
from commonspace.commands import COMMANDS
from commonspace.config_values import resolved
from commonspace.configuration import _DELTAS, compose, config_folder, schema
from commonspace.data.mixture import Mixture, TaskPlan

FOLDER = config_folder()
GROUPS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
# Values for what a root leaves to its user.
GIVEN = {
    "evaluate": ["embedder=chance"],
    "evaluate_long": ["embedder=models/x"],
    "evaluate_mteb": ["embedder=models/x"],
    "evaluate_pages": ["embedder=models/x"],
    "evaluate_paper": ["embedder=models/x", "root=public"],
    "evaluate_speech": ["embedder=models/x"],
    "mine": ["embedder=models/x"],
    "soup": ["ingredients=[models/x,models/y]"],
    "soup_barriers": ["ingredients=[models/x,models/y]"],
    "export": ["embedder=models/x", "output=exported", "to=huggingface"],
    "merge": ["embedder=models/x", "output=models/y"],
    "checkpoint": ["checkpoint=last.ckpt", "output=whole.ckpt"],
    "embed": ["embedder=models/x", "input=in.jsonl", "output=out.npy"],
    "index": ["vectors=vectors.parquet", "output=index"],
    "search": ["embedder=models/x", "index=index", "queries=[a fox]"],
    "serve": ["embedder=models/x"],
    "data_build_own": ["pairs=pairs.jsonl"],
    "data_build_public": ["set=coco"],
    "data_mix": ["tiers=[mini]", "output=mix"],
    "data_synthesise": ["template=query", "input=pairs.jsonl", "generator.model=m"],
    "data_pack": ["output=mini.tar"],
    "data_unpack": ["archive=mini.tar"],
}


def files(*parts: str) -> list[str]:
    folder = FOLDER.joinpath(*parts)
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml"))


def opening_command(path: Path) -> str:
    """The command in a file's first comment line."""
    comments = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ") and "@package" not in line]
    return comments[0]


def roots() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("root", roots())
def test_roots_compose(root: str) -> None:
    assert compose(root, GIVEN.get(root, [])).paths.data == "data"
    assert root in {command.root for command in COMMANDS.values()}


@pytest.mark.parametrize("root", sorted(GIVEN))
def test_what_is_left_to_the_user_is_asked_for(root: str) -> None:
    from commonspace.errors import ConfigError

    key = GIVEN[root][0].partition("=")[0]
    with pytest.raises(ConfigError, match=f"{key}: needs a value"):
        compose(root)


@pytest.mark.parametrize("name", files("experiment") + [f"debug/{name}" for name in files("debug")])
def test_experiments_compose_by_their_own_command(name: str) -> None:
    path = FOLDER / (name if name.startswith("debug/") else f"experiment/{name}")
    command, rest = split_command(opening_command(path.with_suffix(".yaml")).split()[1:])
    wanted = f"debug={name.removeprefix('debug/')}" if name.startswith("debug/") else f"experiment={name}"
    assert wanted in rest
    assert compose(COMMANDS[command].root, overrides_of(command, rest))


@pytest.mark.parametrize("tier", ["full", "mini_generated", "tiny"])
def test_what_an_experiment_of_a_tier_writes_lies_with_that_tier(tier: str) -> None:
    """Most of them begin with mini's: what these write must not be written over."""
    for name in files("experiment", tier):
        command, rest = split_command(opening_command(FOLDER / f"experiment/{tier}/{name}.yaml").split()[1:])
        config = compose(COMMANDS[command].root, overrides_of(command, rest))
        places = [config.get(key) for key in ("output", "uniform_output") if isinstance(config.get(key), str)]
        assert not [place for place in places if tier not in place], (name, places)


@pytest.mark.parametrize("name", files("experiment"))
def test_experiments_say_what_to_expect(name: str) -> None:
    lines = (FOLDER / "experiment" / name).with_suffix(".yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_", "hydra reads the package from the first line only"
    assert lines[1].startswith("# commonspace ") and lines[2].startswith("# ")


@pytest.mark.parametrize("choice", files("logger"))
@pytest.mark.parametrize("name", files("experiment"))
def test_experiments_run_under_every_logger(name: str, choice: str, tmp_path: Path) -> None:
    from commonspace.tracking.identity import Identity
    from commonspace.tracking.logger import make_loggers

    path = FOLDER / "experiment" / f"{name}.yaml"
    command = COMMANDS[split_command(opening_command(path).split()[1:])[0]]
    if "logger" not in schema(command.root):
        pytest.skip(f"{command.root} logs no run")
    config = compose(command.root, [f"experiment={name}", f"logger={choice}"])
    plain = resolved(config)
    assert make_loggers(tmp_path, plain, Identity("abcd-1", "abcd", "1", 0.0))
    assert plain["tags"] == list(OmegaConf.load(path).get("tags", []))


@pytest.mark.parametrize("name", ["image", "speech", "sound", "video", "text"])
def test_a_specialist_is_aligned_on_the_batches_that_alignment_draws(name: str) -> None:
    """Same tasks, batches and ratios of rates, as many steps; of speech, its share rounded, which is one above."""
    whole, alone = (compose("train", [f"experiment=mini/{run}"]) for run in ("align", f"specialist_{name}"))
    tasks = [TaskPlan(task, 10**6, 1, entry.rate) for task, entry in whole.data.tasks.items()]
    drawn = {entry["task"]: entry["steps"] for entry in Mixture(tasks, seed=1, steps=whole.stage.steps).schedule()}
    assert abs(sum(drawn[task] for task in alone.data.tasks) - alone.stage.steps) <= (name == "speech")
    for task, entry in alone.data.tasks.items():
        assert len(alone.data.tasks) == 1 or entry.rate == whole.data.tasks[task].rate, task
        assert {**entry, "rate": None} == {**whole.data.tasks[task], "rate": None}, task
    same = ("new_learning_rate", "dropout", "layer_dropout", "teacher_temperature", "average_decay")
    assert alone.model == whole.model and all(alone.stage[key] == whole.stage[key] for key in same)


def test_the_specialist_of_pages_is_fine_tuned_as_the_reference_is() -> None:
    whole, alone = (compose("train", [f"experiment=mini/{run}"]) for run in ("finetune_base", "specialist_document"))
    assert not alone.stage.task_temperatures, "those of the reference are of pictures, which pages are not"
    assert alone.stage == {**whole.stage, "task_temperatures": {}}
    assert alone.model == whole.model and alone.data.negatives == whole.data.negatives
    assert alone.data.tasks == {task: whole.data.tasks[task] for task in ("document", "document_part", "figure")}


@pytest.mark.parametrize("tier", ["full", "mini", "tiny"])
def test_the_mixture_ablation_changes_what_it_says(tier: str) -> None:
    """Sound, speech and video twice as often, nothing else: then what differs comes from the media."""
    base, media = (compose("train", [f"experiment={tier}/finetune_{name}"]) for name in ("base", "media"))
    for name, task in base.data.tasks.items():
        assert media.data.tasks[name].rate == task.rate * (2 if name in ("sound", "speech", "video") else 1), name
    assert media.stage == base.stage and media.model == base.model


def trained() -> list[str]:
    """The experiments that train a stage."""
    paths = {name: (FOLDER / "experiment" / name).with_suffix(".yaml") for name in files("experiment")}
    return [name for name, path in paths.items() if opening_command(path).startswith("commonspace train ")]


@pytest.mark.parametrize("name", trained())
def test_every_experiment_can_be_overfitted(name: str) -> None:
    """debug=overfit finds the first task of any mixture, and needs neither mined negatives nor a batch of rows."""
    from commonspace.stages.train import chosen_tasks

    config = compose("train", [f"experiment={name}", "debug=overfit"])
    drawn = [task for task, entry in chosen_tasks(config.data).items() if entry["rate"] > 0]
    assert drawn == [next(task for task, entry in config.data.tasks.items() if entry.rate > 0)]
    assert config.data.shrink and config.data.limit == 32 and config.data.negatives is None
    assert (config.stage.dropout, config.stage.average, config.stage.steps) == (0.0, "none", 60)


@pytest.mark.parametrize("name", trained())
def test_pretraining_takes_large_batches(name: str) -> None:
    config = compose("train", [f"experiment={name}"])
    if config.stage.name == "pretrain":
        sizes = {task: entry.batch_size for task, entry in config.data.tasks.items() if entry.rate > 0}
        assert min(sizes.values()) >= 512, sizes


@pytest.mark.parametrize("tier", ["full", "mini"])
def test_the_cold_fine_tune_has_half_of_every_temperature(tier: str) -> None:
    base, cold = (compose("train", [f"experiment={tier}/finetune_{name}"]).stage for name in ("base", "cold"))
    assert cold.temperature == base.temperature / 2 and base.task_temperatures
    assert cold.task_temperatures == {task: value / 2 for task, value in base.task_temperatures.items()}


def test_own_pairs_are_fine_tuned_as_the_mini_tier_is() -> None:
    own, mini = (compose("train", [f"experiment={name}"]).stage for name in ("own/finetune", "mini/finetune_base"))
    assert {key for key in own if own[key] != mini[key]} <= {"token_budget", "dev_every", "task_temperatures"}


TRAIN_CHOICES = [
    f"{group}={name}"
    for group in ("model", "data", "objective", "stage", "trainer", "callbacks", "logger", "launcher", "paths")
    for name in files(group)
    if name != "base"
]
NEEDS = {"stage=finetune": ["data=finetune"], "data=own": ["stage=finetune"], "data=finetune": ["stage=finetune"]}
NEEDS |= {f"data=finetune_{name}": ["stage=finetune"] for name in ("full", "tiny", "generated", "own", "document")}
ON_NEGATIVES = ("embedding_gemma", "shared", "classification")
NEEDS |= {f"objective={name}": ["stage=finetune", "data=finetune"] for name in ON_NEGATIVES}
NEEDS |= {f"data={name}": ["stage=finetune"] for name in ("public", "public_video", "omniembed")}
NEEDS["data=lco_text"] = ["stage=finetune", "objective.reverse=false"]
NATIVE = ("omni", "qwen3_omni", "qwen3_vl", "embedding_gemma2_whole", "gemma3")
NEEDS |= {f"model={name}": ["data.features=false"] for name in NATIVE}


@pytest.mark.parametrize("choice", TRAIN_CHOICES)
def test_every_group_file_composes(choice: str) -> None:
    assert compose("train", [choice, *NEEDS.get(choice, [])])


@pytest.mark.parametrize("name", files("task"))
def test_tasks_are_named_after_their_file(name: str) -> None:
    task = OmegaConf.load(FOLDER / "task" / f"{name}.yaml")
    assert task.name == name
    keys = [key for key in task if key != "swap"]  # of tasks whose sides a recipe may let change places
    assert keys == ["name", "direction", "reverse", "prompt", "batch_size", "rate"] and not task.get("swap")


@pytest.mark.parametrize("name", files("recipe"))
def test_recipes_compose_with_all_their_steps(name: str, tmp_path: Path) -> None:
    from commonspace.recipe import Recipe, read_steps

    config = compose("recipe", [f"recipe={name}"])
    plain = resolved(config, ["paths", "recipe"])
    recipe = Recipe(read_steps(plain["recipe"]["steps"], plain["paths"]), tmp_path)
    assert len([step for step in recipe.order if step.startswith("finetune_")]) >= 3
    assert "pretrain" in recipe.before["mine"] and "mine" in recipe.before["finetune_base"]
    assert {"finetune_base", "finetune_cold", "finetune_media"} <= set(recipe.before["soup"])
    assert all(recipe.step(step).outputs for step in recipe.order)


def test_the_full_recipe_trains_on_the_mixture_and_not_on_what_was_built() -> None:
    steps = OmegaConf.load(FOLDER / "recipe/full.yaml").steps
    made = compose("data_mix", split_command(shlex.split(steps.mix.run))[1])
    built = compose("data_build", split_command(shlex.split(steps.build.run))[1])
    assert made.tiers == [built.data.folder] and made.against == ["mini"] and made.leaks == "drop"
    for name in ("align", "pretrain", "finetune_base", "finetune_generated"):
        assert compose("train", [f"experiment=full/{name}"]).data.tier == made.output != built.data.folder


@pytest.mark.parametrize("name", files("recipe"))
def test_tiers_are_made_again_when_a_rule_of_theirs_changes(name: str) -> None:
    """Each step that makes a tier has the code that decides its rows among its inputs."""
    from commonspace.fingerprints import _files
    from commonspace.recipe import _located, read_steps

    plain = resolved(compose("recipe", [f"recipe={name}"]), ["paths", "recipe"])
    rules = {
        ("data", "mix"): (
            *("data_prep/quality/rules.py", "data_prep/public/wholeness.py"),
            *("commonspace/evaluation/fingerprints.py", "commonspace/processing/preprocessing.py"),
        ),
        ("data", "build"): ("data_prep/merge.py", "commonspace/data/shard_writer.py"),
    }
    for step in read_steps(plain["recipe"]["steps"], plain["paths"]):
        code = [pattern for pattern in step.inputs if pattern.startswith("code:")]
        read = {path for pattern in code for path in _files(_located(pattern))}
        missing = [rule for rule in rules.get(step.words[:2], ()) if not any(str(one).endswith(rule) for one in read)]
        assert not missing, f"{step.name} is not run again when {missing[0]} changes"


def test_every_file_is_reached() -> None:
    used = {"experiment", "ablation", "debug", "task", "recipe", "suite", "rival"} | {
        choice.partition("=")[0] for choice in TRAIN_CHOICES
    }
    assert set(GROUPS) == used and set(_DELTAS) <= used


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_files_open_with_what_they_are_for(path: Path) -> None:
    assert re.match(r"(# @package \S+\n)?# \S", path.read_text())


def test_every_option_of_the_model_reaches_something() -> None:
    """Options are handed on by name; one that nothing takes would be ignored in silence."""
    from dataclasses import fields

    from commonspace.models.build import ModelOptions
    from commonspace.processing.preprocessing import Preprocessing

    taken = {field.name for owner in (ModelOptions, Preprocessing) for field in fields(owner)}
    taken |= {"on_limit", "lora"}
    assert set(compose("train").model) <= taken


@pytest.mark.parametrize("name", NATIVE)
def test_every_option_of_a_native_model_reaches_something(name: str) -> None:
    from dataclasses import fields

    from commonspace.models.backbones.kinds import BACKBONES
    from commonspace.models.build import ModelOptions, preprocessing_of

    model = OmegaConf.to_container(compose("train", [f"model={name}", "data.features=false"]).model)
    numbers = preprocessing_of(model).to_json()
    taken = {field.name for field in fields(ModelOptions)} | {"on_limit", "lora"}
    if "query_prefix" in model:
        changed = preprocessing_of({**model, "query_prefix": "ask: "})
        assert changed.prefixes["clustering"]["query"] == "ask: " and changed.to_json() != numbers
        taken |= {"query_prefix"}
    assert set(model) - set(numbers) <= taken
    assert {key: numbers[key] for key in set(model) & set(numbers)} == {
        key: model[key] for key in set(model) & set(numbers)
    }
    assert type(preprocessing_of(model)) is BACKBONES[name].preprocessing
    limits = {
        "max_tokens": 8192,
        "max_images": 6,
        "max_pages": 6,
        "max_audio_seconds": 30.0 if name == "embedding_gemma2_whole" else 180.0,
        "max_video_seconds": 120.0,
    }
    frames = {"video_fps": 1.0, "video_max_frames": 8 if name == "gemma3" else 32}
    limits = {key: value for key, value in limits.items() if key in numbers}
    assert {**numbers, **limits, **frames} == numbers and len(limits) >= 4


def test_every_option_of_stage_and_objective_reaches_its_class() -> None:
    from dataclasses import fields

    from commonspace.objectives.named import LOSSES, OF_ANY
    from commonspace.stages.settings import StageSettings

    config = compose("train")
    settings = {field.name for field in fields(StageSettings)}
    assert set(compose("train", ["stage=align"]).stage) == settings
    assert set(config.stage) == settings
    for name, options in LOSSES.items():
        own = {field.name for field in fields(options)} | ({"reverse"} if name == "nce" else set())
        assert set(compose("train", [f"objective={name}"]).objective) == {*OF_ANY, *own}


@pytest.mark.parametrize("name", files("objective"))
def test_every_objective_makes_a_loss_that_differs_from_the_default(name: str) -> None:
    """A preset that changed nothing would be a name without a loss."""
    import torch

    from commonspace.stages.train import make_objective

    losses = []
    for choice in (name, "nce"):
        config = compose("train", [f"objective={choice}", *NEEDS.get(f"objective={choice}", [])])
        groups = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        objective = make_objective(OmegaConf.to_container(groups, resolve=True))
        generator = torch.Generator().manual_seed(0)
        vectors = [torch.randn(shape, generator=generator) for shape in ((6, 384), (6, 384), (6, 2, 384))]
        losses.append(float(objective("image_caption", *vectors, temperature=0.2)[0].detach()))
    assert (losses[0] == pytest.approx(losses[1])) == (name == "nce")


def test_every_option_of_data_reaches_the_datamodule() -> None:
    import inspect

    from commonspace.data.datamodule import CommonspaceDataModule

    taken = set(inspect.signature(CommonspaceDataModule).parameters) | {"tier", "features", "first_only"}
    taken |= {"without", "without_rest", "dirichlet", "concentration"}  # taken into the rates by data/rates.py
    assert set(compose("train").data) <= taken
