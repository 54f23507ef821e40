from __future__ import annotations

import pytest

from commonspace.errors import DataError
from data_prep.docstrings import documented_functions, first_prose

_SOURCE = '''
def plain(a, b):
    """Add two numbers and return their sum.

    A second paragraph of it.

    Examples
    ========
    >>> plain(1, 2)
    3
    """
    c = a + b
    # kept
    d = c

    return d

class Box:
    if True:
        @property
        async def lid(self):
            """The lid of the box, if it has one."""
            a = 1
            b = 2
            return a + b

def short(a):
    """Has a docstring of enough words."""
    return a

def silent(a):
    """Few words."""
    b = a
    c = b
    return c

def only():
    """Says much here and there but does nothing at all."""
'''


def test_functions_with_enough_of_both_are_found_without_their_docstring() -> None:
    found = list(documented_functions(_SOURCE, "m.py"))
    assert [function.name for function in found] == ["plain", "Box.lid"]
    plain, lid = found
    assert plain.docstring == "Add two numbers and return their sum. A second paragraph of it."
    assert plain.body == "def plain(a, b):\n    c = a + b\n    # kept\n    d = c\n\n    return d"
    assert lid.body.startswith("async def lid(self):\n    a = 1")
    assert all(function.docstring.split()[0] not in function.body for function in found)


@pytest.mark.parametrize("source", ["def f(:\n", "x = '\0'", "(" * 5000])
def test_what_python_cannot_parse_is_named(source: str) -> None:
    with pytest.raises(DataError, match=r"m\.py"):
        list(documented_functions(source, "m.py"))


def test_nothing_is_executed(tmp_path) -> None:
    victim = tmp_path / "ran"
    list(documented_functions(f"open({str(victim)!r}, 'w').close()\n{_SOURCE}", "m.py"))
    assert not victim.exists()


@pytest.mark.parametrize(
    ("docstring", "prose"),
    [
        ("One.\n\n\n\nTwo.\n\nThree.", "One. Two."),
        ("One\ntwo.\n\nParameters\n----------\nx : int", "One two."),
        (">>> f()\n1", ""),
        ("One.\n\n:param x: y", "One."),
    ],
)
def test_prose_ends_where_sections_begin(docstring: str, prose: str) -> None:
    assert first_prose(docstring) == prose
