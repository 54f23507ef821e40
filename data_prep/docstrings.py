"""Docstring and body pairs out of Python source, parsed and never executed."""

from __future__ import annotations

import ast
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from commonspace.errors import DataError

MIN_WORDS = 5
BODY_LINES = range(4, 121)


@dataclass(frozen=True)
class Function:
    """A function with a docstring: dotted name inside its module, the docstring's prose, and the source without it."""

    name: str
    line: int
    docstring: str
    body: str


def documented_functions(source: str, name: str) -> Iterator[Function]:
    """Functions and methods whose docstring has `MIN_WORDS` words and whose body `BODY_LINES` lines.

    Raises:
        DataError: the file is no Python of this version.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # stray escapes in other people's docstrings
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{name}: cannot be parsed ({error}); leave it out") from error
    lines = source.splitlines()
    yield from _walk(tree, lines, "")


def _walk(node: ast.AST, lines: list[str], prefix: str) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{prefix}{child.name}"
            if not isinstance(child, ast.ClassDef):
                found = _documented(child, lines, name)
                if found:
                    yield found
            yield from _walk(child, lines, f"{name}.")
        elif isinstance(child, (ast.If, ast.Try, ast.With)):
            yield from _walk(child, lines, prefix)


def _documented(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str], name: str) -> Function | None:
    docstring = ast.get_docstring(node)
    if not docstring:
        return None
    prose = first_prose(docstring)
    statement = node.body[0]
    # `lineno` counts from 1: what stands before the docstring is the signature, what follows it the body.
    kept = lines[node.lineno - 1 : statement.lineno - 1] + lines[statement.end_lineno or 0 : node.end_lineno]
    body = textwrap.dedent("\n".join(line.rstrip() for line in kept)).strip("\n")
    size = sum(bool(line.strip()) for line in body.splitlines())
    if len(prose.split()) < MIN_WORDS or size not in BODY_LINES or len(node.body) < 2:
        return None
    return Function(name, node.lineno, prose, body)


def first_prose(docstring: str, paragraphs: int = 2) -> str:
    """The opening paragraphs of a docstring, before sections, field lists and examples, as running text."""
    kept = []
    for block in docstring.strip().split("\n\n"):
        rows = [row.strip() for row in block.strip().splitlines()]
        if not rows:
            continue
        is_section = len(rows) > 1 and rows[1] and set(rows[1]) <= set("=-~^")
        if is_section or rows[0].startswith((">>>", ":", "..", "@", "*", "- ")) or len(kept) == paragraphs:
            break
        kept.append(" ".join(rows))
    return " ".join(" ".join(kept).split())
