from __future__ import annotations

import pytest

from data_prep.sides import Sides
from data_prep.split import split_of


def names_on(side: str, count: int = 1, shortest: int = 1) -> list[str]:
    """Concepts that lie on a side by their own name."""
    found = (f"{'x' * shortest}{number}" for number in range(10_000))
    return [name for name in found if split_of(name) == side][:count]


def test_a_name_alone_lies_where_its_hash_says():
    sides = Sides()
    for side in ("train", "dev", "heldout"):
        sides.add(names_on(side)[0], [], inner=True)
        assert sides.of(names_on(side)[0]) == side
    assert sides.of("never seen") == split_of("never seen")


def test_without_a_smaller_tier_the_group_decides():
    """The rule before there was a larger tier: the shortest name of a joined group."""
    [held], [trained] = names_on("heldout", shortest=5), names_on("train", shortest=1)
    for inner in (True, False):
        sides = Sides()
        sides.add(held, [7], inner)
        sides.add(trained, [7], inner)
        assert sides.of(held) == sides.of(trained) == "train"


@pytest.mark.parametrize("other", ["train", "dev"])
def test_what_a_larger_tier_joins_does_not_move_a_held_out_concept(other):
    [held], [short] = names_on("heldout", shortest=5), names_on(other, shortest=1)
    sides = Sides()
    sides.add(held, [7], inner=True)
    sides.add(short, [7], inner=False)
    assert sides.of(held) == sides.of(short) == "heldout"


def test_a_trained_concept_of_the_smaller_tier_stays_trained():
    [trained], [held] = names_on("train", shortest=5), names_on("heldout", shortest=1)
    sides = Sides()
    sides.add(trained, [7], inner=True)
    sides.add(held, [7], inner=False)
    assert sides.of(trained) == sides.of(held) == "train"


def test_of_two_concepts_that_the_larger_tier_joins_the_stricter_side_counts():
    [trained], [held] = names_on("train", shortest=1), names_on("heldout", shortest=5)
    sides = Sides()
    sides.add(trained, [1], inner=True)
    sides.add(held, [2], inner=True)
    assert (sides.of(trained), sides.of(held)) == ("train", "heldout")
    sides.add("bridge", [1], inner=False)
    sides.add("bridge", [2], inner=False)
    assert sides.of(trained) == sides.of(held) == sides.of("bridge") == "heldout"
    assert sides.groups() == [sorted([trained, held, "bridge"])]
