from __future__ import annotations

from collections import Counter

from commonspace.content import Content
from data_prep.sources import same_label
from data_prep.split import split_of


def labelled(count: int, label: str) -> list[tuple[str, same_label.Example]]:
    names = [name for name in (f"{label} {n}" for n in range(9 * count)) if split_of(name) == "train"][:count]
    return [(label, same_label.Example(name, name, Content(name))) for name in names]


def test_triples_have_one_label_and_another():
    drops: Counter = Counter()
    held = next(name for name in map(str, range(99)) if split_of(name) == "heldout")
    rows = [*labelled(30, "fox"), *labelled(20, "owl"), *labelled(5, "few")]
    rows += [("fox", same_label.Example(held, held, Content(held))), ("", rows[0][1])]
    triples = list(same_label.triples("wiki", "same_topic", rows, drops))
    text = lambda content: content.parts[0].text  # noqa: E731
    assert len(triples) == 22 + 12 and drops["row of a label with few rows"] == 5
    assert drops["row without a label, on dev or held out"] == 2
    answers = {label: set() for label in ("fox", "owl")}
    for triple in triples:
        label, other = triple.extra["label"], triple.extra["other_label"]
        query, answer = text(triple.queries[0].content), text(triple.positives[0].content)
        [negative] = triple.negatives
        assert (
            query.startswith(label) and answer.startswith(label) and text(negative).startswith(other) and label != other
        )
        assert query != answer and set(triple.extra["members"]) == {query, answer, text(negative)}
        answers[label].add(answer)
    assert all(1 < len(found) <= 8 for found in answers.values())  # few, so that a batch repeats some and masks them
