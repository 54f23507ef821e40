"""docs/recipe.md names files and symbols; both must exist, and every objective must have its row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
REFERENCES = sorted(set(re.findall(r"`((?:src|data_prep|configs)/[\w/.]+):([\w.]+)`", TEXT)))


def symbols(tree: ast.AST, prefix: str = "") -> set[str]:
    """Dotted names of functions, classes and assigned names, as far as classes nest."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                found |= symbols(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign):
            found |= {prefix + target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize(("file", "symbol"), REFERENCES, ids=lambda part: part.rsplit("/", 1)[-1])
def test_every_reference_exists(file, symbol):
    path = ROOT / file
    assert path.is_file(), f"docs/recipe.md names {file}, which does not exist"
    assert symbol in symbols(ast.parse(path.read_text(encoding="utf-8"))), f"{file} has no {symbol}"


def test_the_page_covers_the_objectives_and_every_equation():
    files = {file for file, _ in REFERENCES}
    objectives = {
        f"src/commonspace/objectives/{path.name}" for path in (ROOT / "src/commonspace/objectives").glob("*.py")
    }
    assert objectives - files == {"src/commonspace/objectives/__init__.py"}
    assert all(f"Eq. {number}" in TEXT for number in (1, 2, 3))
    # Every `path:symbol` in backticks was understood by the pattern above.
    assert len(re.findall(r"`(?:src|data_prep|configs)/[^`]*:[^`]*`", TEXT)) == len(
        re.findall(r"`(?:src|data_prep|configs)/[\w/.]+:[\w.]+`", TEXT)
    )
