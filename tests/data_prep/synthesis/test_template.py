from __future__ import annotations

from pathlib import Path

import pytest

from commonspace.content import Content
from commonspace.errors import ConfigError
from data_prep.synthesis.cache import Answer, AnswerCache
from data_prep.synthesis.template import FOLDER, load_template, parse_json

NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_the_templates_that_are_promised_are_there():
    assert NAMES == [
        "classification",
        "code_feedback",
        "image_questions",
        "query",
        "similar",
        "speech_paraphrase",
        "text_to_sql",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_with_what_it_is_for_and_shows_its_answer(name: str):
    """The example at the end of each question has the fields of its schema."""
    template = load_template(name)
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")
    question = template.question("THE TEXT {with} braces", "A LABEL")
    example = parse_json(question[question.rindex("Answer with JSON:") :], template.schema)
    sides = {side: Content(side) for side in template.needs}
    assert list(template.pairs(example, sides)) and set(example) == set(template.schema["required"])
    assert ("THE TEXT {with} braces" in question) == ("text" in template.needs)
    assert ("A LABEL" in question) == template.uses_label == (name == "classification")


def test_of_a_list_no_more_is_taken_than_was_asked_for():
    template = load_template("query", count=3)
    sides = {"text": Content("passage")}
    pairs = list(template.pairs({"queries": ["a {b}", "c", "d", "e"]}, sides))
    assert [pair.query for pair in pairs] == [Content("a {b}"), Content("c"), Content("d")]
    assert {pair.positive for pair in pairs} == {Content("passage")} and "Write 3 different" in template.question(
        "", ""
    )


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("needs: [text]", "needs: [smell]", r"needs \['smell'\]"),
        ("needs: [text]", "needs: [image]", "asks with {text}, which needs does not have"),
        ("{text}", "{body}", r"asks with \['body', 'count'\]"),
        ("count: 2", "count: two", "count is a number where asks has"),
        ("type: object", "type: thing", "schema: "),
        ("each: queries", "each: others", "each: others is no required list"),
        ('"{item}"', '"{question}"', "names question, which the schema does not require"),
        ("$text", "$image", r"\$image is not among needs"),
        ("query: [", "ask: [", r"a row has \['ask', 'each', 'positive'\]"),
        ("criterion:", "holds:", "is no mapping of asks"),
    ],
)
def test_a_template_that_could_not_work_is_refused(tmp_path: Path, old: str, new: str, message: str):
    text = (FOLDER / "query.yaml").read_text()
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert load_template(str(path)).name == "mine"
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_template(str(path))


@pytest.mark.parametrize(
    "text, message",
    [
        ("no", "no JSON object"),
        ('{"a": ', "Expecting"),
        ('{"b": 1}', "'a' is a req"),
        (r'{"a": "smile \ud83d"}', "half of a surrogate pair"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse_json(text, {"type": "object", "required": ["a"]})


def test_answers_outlive_the_cache_that_took_them(tmp_path: Path):
    cache = AnswerCache(tmp_path / "here/a.sqlite")
    cache.put("k", Answer("x", 1, None, "length"))
    cache.put("k", Answer("y", None, 2))
    cache.close()
    assert AnswerCache(tmp_path / "here/a.sqlite").get("k") == Answer("y", None, 2, "stop")
    assert AnswerCache(tmp_path / "here/a.sqlite").get("other") is None


def test_a_cache_that_is_no_database_is_named(tmp_path: Path):
    from commonspace.errors import DataError

    (tmp_path / "a.sqlite").write_text("no database, and longer than its header would be" * 9)
    with pytest.raises(DataError, match=r"a\.sqlite: the cache of answers cannot be used"):
        AnswerCache(tmp_path / "a.sqlite")
