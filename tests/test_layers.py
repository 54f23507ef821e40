"""Who may import whom: imports point down only, and what must stay light stays light. Read from the sources."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "commonspace"

# From the ground up; a module may import its own floor and those below it.
FLOORS = (
    {"errors", "files", "locks", "config_values"},
    {"content", "html_document", "prompts"},
    {"processing"},
    {"models"},
    {"objectives", "data", "tracking"},
    {"evaluation"},
    {"mining", "serving", "export", "embed", "rivals"},
    {"stages"},
    {"fingerprints", "child", "contradictions", "model_contradictions", "objective_contradictions", "commands"}
    | {"stage_contradictions"},
    {"configuration"},
    {"recipe_view", "doctor", "multirun"},
    {"recipe", "cli", "launching", "planning"},
)


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path, *, at_top: bool = False) -> Iterator[tuple[str, int]]:
    """Dotted names a file imports, with their lines; those under TYPE_CHECKING count, for they point somewhere too."""
    tree = ast.parse(path.read_text())
    nodes = _outside_functions(tree) if at_top else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _outside_functions(node)


def room(name: str) -> str | None:
    """The room of a dotted name inside the package: "commonspace.data.shards.X" is in "data"."""
    parts = name.split(".")
    return parts[1] if parts[0] == "commonspace" and len(parts) > 1 else None


def floor(name: str) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if name in rooms]
    assert found, f"room {name!r} is on no floor; put it in FLOORS"
    return found[0]


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and not path.name.startswith("_")}
    assert all(floor(name) >= 0 for name in rooms)
    assert set().union(*FLOORS) == rooms, "a floor names a room that is not there"


@pytest.mark.parametrize("path", modules(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if here == "__init__":
        return
    for name, line in imports(path):
        there = room(name)
        is_room = there is not None and ((PACKAGE / there).is_dir() or (PACKAGE / f"{there}.py").is_file())
        if there == here or not is_room:
            continue
        assert floor(there) <= floor(here), f"{path}:{line} imports {name}, which is above {here}"
        assert there != "stages" or here in ("contradictions", "recipe", "cli", "planning"), (
            f"{path}:{line}: stages are not a library"
        )


@pytest.mark.parametrize("room_name", ["objectives", "data", "processing", "models"])
def test_losses_data_and_models_know_no_trainer_and_no_hydra(room_name: str) -> None:
    for path in modules(PACKAGE / room_name):
        for name, line in imports(path, at_top=True):
            top = name.split(".")[0]
            if path.name == "datamodule.py" and top == "pytorch_lightning":
                continue  # the one door between data and the trainer
            assert top not in ("pytorch_lightning", "lightning", "hydra", "omegaconf"), f"{path}:{line} imports {name}"


ALLOWED = (
    "commonspace.content",
    "commonspace.errors",
    "commonspace.data.sample",
    "commonspace.data.estimate",
    "commonspace.data.tar_records",
    "commonspace.data.shards",
    "commonspace.data.shard_writer",
    "commonspace.files",
    "commonspace.locks",
    "commonspace.data.shard_join",
    "commonspace.processing.svg",  # what models take for an SVG
    "commonspace.evaluation.relevance",  # when two texts are the same
)
MEASURES = (
    "commonspace.evaluation.fingerprints",
    "commonspace.processing.preprocessing",
    "commonspace.processing.pieces",
    "commonspace.models.embedder",
    "commonspace.models.folder",
)


@pytest.mark.parametrize("path", modules(ROOT / "data_prep"), ids=lambda path: path.name)
def test_data_preparation_uses_only_the_datum_and_the_writer(path: Path) -> None:
    measures = path.parent.name == "quality"  # of rows: by the fingerprints of evaluation, and by a model
    allowed = (*ALLOWED, *(MEASURES if measures else ()))
    for name, line in imports(path):
        if name.startswith("commonspace"):
            inside = name.startswith(allowed) or name == "commonspace.data.shards"
            assert inside, f"{path}:{line} imports {name}"


@pytest.mark.parametrize("path", modules(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_package_knows_data_preparation_by_the_names_of_its_commands_alone(path: Path) -> None:
    """No import, also none by name; `commands.py` names the functions that `data fetch` and the like call."""
    assert not [name for name, _ in imports(path) if name.split(".")[0] == "data_prep"]
    texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    named = {text for text in texts if isinstance(text, str) and re.match(r"data_prep[.:\w]*$", text)}
    here = path.relative_to(PACKAGE).as_posix()
    if here == "commands.py":
        assert named and all(name.startswith("data_prep.cli:") for name in named)
    else:
        assert named <= ({"data_prep"} if here == "evaluation/results.py" else set())  # there a folder of git


@pytest.mark.parametrize(
    "module, absent",
    [
        ("commonspace.objectives.nce", ("pytorch_lightning", "hydra", "transformers")),
        ("commonspace.data.shards", ("pytorch_lightning", "hydra", "torch")),
        ("commonspace.content", ("torch", "hydra")),
        ("commonspace.models.embedder", ("pytorch_lightning", "hydra", "wandb")),
    ],
)
def test_what_an_import_brings_along(module: str, absent: tuple[str, ...]) -> None:
    probe = f"import sys, {module}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_import_is_a_declared_dependency() -> None:
    """What code imports is in pyproject.toml, and what is there is imported somewhere."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [item for group in project["optional-dependencies"].values() for item in group]
    declared = {_plain(re.split(r"[\[<>=!~; ]", item)[0]) for item in project["dependencies"]}
    optional = {_plain(re.split(r"[\[<>=!~; ]", item)[0]) for item in extras}
    providers = importlib.metadata.packages_distributions()
    used: dict[str, str] = {}
    for folder, allowed in ((PACKAGE, declared), (ROOT / "data_prep", declared), (ROOT / "tests", declared | optional)):
        for path in modules(folder):
            at_top = set(imports(path, at_top=True))
            for name, line in imports(path):
                top = name.split(".")[0]
                if top in sys.stdlib_module_names or top in ("commonspace", "data_prep", "tests", "__main__"):
                    continue
                distributions = {_plain(found) for found in providers.get(top, [])}
                if not distributions and folder.name == "tests":
                    continue  # a module that the test itself writes
                apart = path.is_relative_to(PACKAGE / "serving/http") or path.name == "commonspace_module.py"
                if folder.name != "tests" and (apart or (name, line) not in at_top) and distributions & optional:
                    continue  # what one command needs is asked for there, and may be absent
                assert distributions & allowed, f"{path}:{line} imports {top}, which pyproject.toml does not declare"
                used.update(dict.fromkeys(distributions & allowed, str(path)))
    # Plugins and native parts, loaded by name; with the last two people read our shards in loaders of their own.
    loaded_by_name = {"hydra-submitit-launcher", "hydra-optuna-sweeper", "pyvips-binary", "torchvision"} | {
        "webdataset",
        "torchdata",
    }
    assert sorted(declared - set(used) - loaded_by_name) == [], "declared, but nothing imports it"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
