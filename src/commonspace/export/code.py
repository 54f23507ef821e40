"""The part of this package that loads and runs a model, copied into a folder: then that needs no installed commonspace.

The rooms below `data` and `stages` know nothing of hydra, Lightning or training data, and import nothing above them.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CODE = "commonspace_code"
REQUIREMENTS = "requirements.txt"
_PACKAGE = Path(__file__).resolve().parents[1]
_PARTS = (
    *("__init__.py", "errors.py", "files.py", "content.py", "content.schema.json", "html_document.py", "prompts.py"),
    *("processing", "models", "export/__init__.py", "export/inputs.py"),
)


def write_code(folder: Path) -> None:
    """Write FOLDER/commonspace_code, and FOLDER/requirements.txt: the packages that the code and the loader import."""
    target = folder / CODE / _PACKAGE.name
    for source in sources():
        place = target / source.relative_to(_PACKAGE)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    (folder / REQUIREMENTS).write_text("\n".join(requirements()) + "\n")


def sources() -> list[Path]:
    """The files that are carried."""
    chosen = [_PACKAGE / part for part in _PARTS]
    inside = [path for folder in chosen if folder.is_dir() for path in folder.rglob("*.py")]
    return sorted([path for path in chosen if path.is_file()] + inside)


@cache
def requirements() -> tuple[str, ...]:
    """What the carried code imports, with the ranges that this project declares, and sentence-transformers."""
    declared = {}
    for line in importlib.metadata.requires("commonspace") or []:
        name = re.split(r"[\[<>=!~; ]", line)[0]
        declared.setdefault(name.lower().replace("_", "-"), line.partition(";")[0].strip())
    wanted = {"sentence-transformers", "torchvision", "pyvips-binary"}  # the last two are loaded by name
    providers = importlib.metadata.packages_distributions()
    for top in {name for path in sources() if path.suffix == ".py" for name in _imported(path)}:
        wanted |= {one.lower().replace("_", "-") for one in providers.get(top, [])}
    return tuple(sorted(line for name, line in declared.items() if name in wanted))


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        for top in {name.partition(".")[0] for name in names} - {"commonspace"}:
            if top not in sys.stdlib_module_names:
                yield top
