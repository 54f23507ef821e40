from __future__ import annotations

from pathlib import Path

from data_prep.sources.code import SOURCE

_FUNCTION = '''
def {name}(a, b):
    """{text} of the two numbers that were given."""
    c = a + b
    d = c * {number}
    return d
'''


def test_functions_of_both_packages_without_tests_and_repeats(write, read, tmp_path: Path) -> None:
    one, two = _FUNCTION.format(name="one", text="Sum", number=1), _FUNCTION.format(name="two", text="Double", number=2)
    write("sympy/core/add.py", one + two)
    write("sympy/core/tests/test_add.py", two)
    write("sympy/testing/run.py", two)
    write("sympy/core/copy.py", one)
    write("sympy/broken.py", "def (")
    write("networkx/graph.py", one.replace("c = a", "e = a"))
    records, drops = read(SOURCE, root=tmp_path)
    assert [(record.concept, record.extra["function"]) for record in records["code"]] == [
        ("networkx.graph", "one"),
        ("sympy.core.add", "one"),
        ("sympy.core.add", "two"),
    ]
    assert records["code"][1].queries[0].content.parts[0].text == "Sum of the two numbers that were given."
    assert '"""' not in records["code"][1].positives[0].content.parts[0].text
    assert drops == {"repeated function": 1, "module that cannot be parsed": 1}
