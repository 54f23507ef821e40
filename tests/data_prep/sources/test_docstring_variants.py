from __future__ import annotations

import pytest

from data_prep.sources.docstring_variants import SOURCE, variants


@pytest.mark.parametrize(
    "docstring, function, expected",
    [
        (
            "Returns the degree of a node. The weight of an edge counts.",
            "Graph.node_degree",
            [
                "How do I return the degree of a node?",
                "Returns the degree of a node.",
                "lib function for node degree",
            ],
        ),
        (
            "Return True if the graph is a tree, False otherwise.",
            "is_tree",
            ["How do I check whether the graph is a tree?", "lib function for is tree"],
        ),
        ("Applies f to all i.e. each of them.", "f", ["How do I apply f to all i.e. each of them?"]),
        (
            "searches the tree for it",
            "HTTPSearch",
            ["How do I search the tree for it?", "lib function for HTTP search"],
        ),
        ("Degree of all nodes together", "__len_of__", []),
    ],
)
def test_ways_to_ask(docstring, function, expected):
    assert variants(docstring, function, "lib") == expected


def test_a_record_has_the_ways_as_variants_and_is_for_training_alone(write, read, tmp_path):
    body = "\n".join(f"    a{n} = {n}" for n in range(6))
    code = f'def {{}}(x):\n    """{{}}"""\n{body}\n'
    for package in SOURCE.packages:
        folder = {"Django": "django", "scikit_learn": "sklearn"}.get(package.name, package.name)
        text = (
            f"{package.name} adds many numbers up again." if package.name == "sympy" else f"Add up what {folder} has."
        )
        write(
            f"{folder}/core.py",
            code.format("add" if package.name == "sympy" else "add_all", text).replace("a0", folder),
        )
    records, drops = read(SOURCE, root=tmp_path)
    assert len(records["docstring"]) == len(SOURCE.packages) - 1 and drops == {"docstring that no rule varies": 1}
    record = next(record for record in records["docstring"] if record.extra["package"] == "networkx")
    assert [variant.content.parts[0].text for variant in record.queries] == [
        "How do I add up what networkx has?",
        "networkx function for add all",
    ]
    assert record.extra["members"] == [record.concept] == ["networkx.core"] and record.extra["synthetic"]
