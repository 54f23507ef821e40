"""Synthesis against a stand-in endpoint, with the client that people use."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commonspace.content import Audio, Content, Image
from commonspace.data.sample import Record, Variant
from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.errors import ConfigError, DataError
from data_prep.cli import build_own, synthesise
from data_prep.split import split_of
from data_prep.synthesis.run import _unfit
from data_prep.synthesis.template import Pair
from tests.data_prep.synthesis.stand_in import INPUT_TOKENS, OUTPUT_TOKENS, StandIn, stand_in, text_of
from tests.media import sound_bytes, tone

NAMES = [name for name in (f"thing {number}" for number in range(60)) if split_of(name) == "train"][:24]


def options(server: StandIn | None, folder: Path, **more: Any) -> dict[str, Any]:
    """Arguments of the command as its config gives them."""
    given: dict[str, Any] = {
        "template": "query",
        "source": str(folder / "pairs.jsonl"),
        "output": str(folder / "out"),
        "data": str(folder / "data"),
        "cache": str(folder / "cache"),
        "generator": {"backend": "openai", "model": "m", "base_url": server and server.base_url, "at_once": 2},
        "sampling": {"temperature": 0.7, "top_p": 1.0, "max_tokens": 64, "seed": 1},
        "price": {"input": 2.0, "output": 10.0},
        "rater": {"threshold": None, "model": None, "price": {"input": None, "output": None}},
        "budget": {"requests": None, "cost": None},
    }
    given["generator"].update({"key_variable": None, "answers": None, "retries": 2, "timeout": 20.0})
    for key, value in more.items():
        given[key] = {**given[key], **value} if isinstance(given.get(key), dict) else value
    return given


def write_pairs(folder: Path, *more: dict[str, Any]) -> None:
    rows = [{"query": f"q {name}", "positive": name.capitalize()} for name in NAMES]
    held = next(name for name in map("held {}".format, range(99)) if split_of(name) == "heldout")
    rows += [
        {"query": "never asked", "positive": held},
        {"query": "q", "positive": "Made", "synthetic": "before"},
        *more,
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))


def name_in(body: dict[str, Any]) -> str:
    return text_of(body).split("Passage:\n")[1].split("\n")[0]


def queries(body: dict[str, Any]) -> str:
    """Two queries about the passage, in prose that some models cannot do without."""
    found = {"queries": [f"what is {name_in(body)}", f"where is {name_in(body)}", "a third, not asked for"]}
    return f"Here you are:\n```json\n{json.dumps(found)}\n```"


def rows_of(folder: Path, template: str = "query", name: str = "pairs") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"out/{template}/{name}.jsonl").read_text().splitlines()]


def test_rows_of_ones_own_become_rows_that_train(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    with stand_in(queries, seconds=0.02) as server:
        report = synthesise(**options(server, tmp_path))
    assert {name_in(body) for body in server.asked} == {name.capitalize() for name in NAMES} and len(server.asked) == 24
    assert server.at_once == 2 and server.keys == {"Bearer none"}
    body = server.asked[0]
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.7, 1.0, 64, 1)
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["queries"]
    rows = rows_of(tmp_path)
    assert {(row["query"][0], row["positive"][0], row["concept"]) for row in rows} == {
        (f"{word} is {name.capitalize()}", name.capitalize(), name) for name in NAMES for word in ("what", "where")
    }
    assert {row["synthetic"] for row in rows} == {"query by m"} and report["rows"] == {"kept": 48, "dropped": {}}
    # beside the rows that they were made of, in one file
    (tmp_path / "out/query/all.jsonl").write_text(
        (tmp_path / "pairs.jsonl").read_text() + "\n" + "\n".join(map(json.dumps, rows))
    )
    manifest = build_own(tmp_path / "out/query/all.jsonl", tmp_path / "data")
    assert manifest["tasks"]["own"] == {"train": 24 + 1 + 48, "dev": 0, "heldout": 1}


def test_the_bill_is_a_plain_sum(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    score = lambda body: json.dumps({"score": 5})  # noqa: E731
    answer = lambda body: score(body) if body["model"] == "judge" else queries(body)  # noqa: E731
    judge = {"threshold": 3, "model": "judge", "price": {"input": 1.0, "output": 3.0}}
    with stand_in(answer) as server:
        report = synthesise(**options(server, tmp_path, rater=judge))
        again = synthesise(**options(server, tmp_path, rater=judge))
    assert len(server.asked) == 24 + 48
    write, rate = report["requests"]["write"], report["requests"]["rate"]
    assert (write["answers"], rate["answers"], write["input_tokens"], rate["output_tokens"]) == (
        24,
        48,
        24 * INPUT_TOKENS,
        48 * OUTPUT_TOKENS,
    )
    written = sum(INPUT_TOKENS * 2.0 / 1e6 + OUTPUT_TOKENS * 10.0 / 1e6 for _ in range(24))
    rated = sum(INPUT_TOKENS * 1.0 / 1e6 + OUTPUT_TOKENS * 3.0 / 1e6 for _ in range(48))
    assert write["cost"] == pytest.approx(written) and report["cost"] == report["new_cost"] == pytest.approx(
        written + rated
    )
    assert (
        again["cost"] == pytest.approx(written + rated) and again["new_cost"] == 0 and again["rows"] == report["rows"]
    )
    page = (tmp_path / "out/query/report.md").read_text()
    assert f"{written + rated:,.4f}" in page and "| rate | 48 | 0 | 0 | 4,800 | 336 |" in page


def test_the_rater_keeps_what_scores_high_enough_and_another_threshold_costs_nothing(tmp_path: Path) -> None:
    write_pairs(tmp_path)

    def answer(body: dict[str, Any]) -> str:
        if "Rate a training example" not in text_of(body):
            return queries(body)
        assert body["temperature"] == 0
        return json.dumps({"score": 4 if "what is" in text_of(body) else 2, "reason": "so"})

    with stand_in(answer) as server:
        report = synthesise(**options(server, tmp_path, rater={"threshold": 3}))
        assert {row["query"][0].split()[0] for row in rows_of(tmp_path)} == {"what"}
        looser = synthesise(**options(server, tmp_path, rater={"threshold": 2}))
    assert report["rows"] == {"kept": 24, "dropped": {"score below 3": 24}} and report["scores"] == {"2": 24, "4": 24}
    assert looser["rows"]["kept"] == 48 and len(server.asked) == 72


def test_what_is_refused_for_now_is_asked_again_and_what_fails_is_listed(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    tries: dict[str, int] = {}
    never, empty, bad, mended = (name.capitalize() for name in NAMES[:4])

    def answer(body: dict[str, Any]) -> Any:
        name = name_in(body)
        tries[name] = tries.get(name, 0) + 1
        if name == never or tries[name] == 1:
            return 429
        if name == empty:
            return None
        if name == bad or (name == mended and len(body["messages"]) == 1):
            return '{"queries": "not a list"}'
        return queries(body)

    with stand_in(answer) as server:
        report = synthesise(**options(server, tmp_path))
        failures = {row["input"].split("-")[-1]: row["reason"] for row in rows_of(tmp_path, name="failures")}
        assert len(failures) == report["failures"] == 3 and report["inputs"]["failed"] == 3
        reasons = " ".join(failures.values())
        assert "429: " in reasons and "no text in the answer" in reasons and "$.queries: 'not a list' is not" in reasons
        assert tries[never] == 3 and tries[bad] == 3  # first refused, then asked twice
        assert report["rows"]["kept"] == 2 * 21 and report["requests"]["write"]["failed"] == 2
        assert report["requests"]["write"]["answers"] == 23 + 1
        repeated = next(body for body in server.asked if name_in(body) == mended and len(body["messages"]) == 3)
        assert "not a list" in repeated["messages"][1]["content"] and "$.queries" in repeated["messages"][2]["content"]
        before = len(server.asked)
        server.answer = queries  # the endpoint is well again: what failed is asked, what was answered badly is paid for
        report = synthesise(**options(server, tmp_path))
    assert {name_in(body) for body in server.asked[before:]} == {never, empty}
    assert report["rows"]["kept"] == 2 * 23 and report["failures"] == 1


def test_a_budget_of_requests_stops_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    with stand_in(queries) as server:
        report = synthesise(**options(server, tmp_path, budget={"requests": 5}))
        assert len(server.asked) == 5 and report["stopped"] == "budget.requests" and report["failures"] == 0
        assert report["rows"]["kept"] == 10 == len(rows_of(tmp_path)) and report["inputs"]["asked about"] == 5
        synthesise(**options(server, tmp_path, budget={"requests": 5}))
        assert len(server.asked) == 5  # answers of the first call count
        report = synthesise(**options(server, tmp_path, budget={"requests": 24}))
    assert len(server.asked) == 24 and report["rows"]["kept"] == 48 and report["stopped"] is None
    assert report["requests"]["write"]["new"] == 19


def test_a_budget_of_cost_is_exceeded_by_what_is_on_its_way_at_most(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    one = (INPUT_TOKENS * 2.0 + OUTPUT_TOKENS * 10.0) / 1e6
    with stand_in(queries) as server:
        report = synthesise(**options(server, tmp_path, budget={"cost": 5.5 * one}))
        assert 6 <= len(server.asked) <= 6 + 1 and report["stopped"] == "budget.cost"
        assert report["cost"] == pytest.approx(len(server.asked) * one)
        with pytest.raises(ConfigError, match="price of write is not known"):
            synthesise(**options(server, tmp_path, budget={"cost": 1.0}, price={"input": None, "output": None}))
        server.answer = lambda body: {
            "usage": None,
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": queries(body)}}
            ],
        }
        with pytest.raises(DataError, match="does not say how many tokens"):
            synthesise(**options(server, tmp_path, budget={"cost": 1.0}))
        report = synthesise(**options(server, tmp_path, sampling={"seed": 2}))
    assert report["requests"]["write"]["without_usage"] == 24 and report["cost"] == 0
    assert "Of 24 answers the endpoint did not say" in (tmp_path / "out/query/report.md").read_text()


def test_killed_in_the_middle_and_resumed_nothing_is_paid_for_twice(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    with stand_in(queries, seconds=0.15) as server:
        given = options(server, tmp_path)
        code = f"from data_prep.cli import synthesise; synthesise(**{given!r})"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, env=dict(os.environ))
        give_up = time.monotonic() + 60
        while server.answered < 7 and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        time.sleep(0.3)
        before = len(server.asked)
        assert 7 <= before < 24 and not (tmp_path / "out").exists()
        server.seconds = 0.0
        report = synthesise(**given)
    lost = len(server.asked) - 24  # those that were on their way, two at most, and two that were about to be kept
    assert 0 <= lost <= 4 and report["requests"]["write"]["new"] == len(server.asked) - before
    assert report["requests"]["write"]["answers"] == 24
    resumed = rows_of(tmp_path)
    with stand_in(queries) as server:
        synthesise(**options(server, tmp_path, cache=str(tmp_path / "other"), output=str(tmp_path / "whole/out")))
    assert resumed == rows_of(tmp_path / "whole")


@pytest.mark.parametrize("status, message", [(401, "refuses model 'm'"), (404, "check generator.model")])
def test_an_endpoint_that_will_never_answer_is_an_error_at_once(tmp_path: Path, status: int, message: str) -> None:
    write_pairs(tmp_path)
    with stand_in(lambda _body: status) as server, pytest.raises(ConfigError, match=message):
        synthesise(**options(server, tmp_path))
    assert len(server.asked) <= 4
    assert not (tmp_path / "out").exists()  # nothing in place of what an earlier call may have left


def test_an_endpoint_that_takes_no_max_tokens_says_so_once_and_is_asked_by_the_other_name(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    words = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    answer = lambda body: (400, words) if "max_tokens" in body else queries(body)  # noqa: E731
    with stand_in(queries) as server:
        synthesise(**options(server, tmp_path, generator={"model": "older"}))
        before = rows_of(tmp_path)
        server.asked.clear()
        server.answer = answer
        with pytest.raises(ConfigError, match=f"write: all of 8 requests were refused: 400: .*{words}.*limit_name"):
            synthesise(**options(server, tmp_path))
        assert len(server.asked) == 8 and rows_of(tmp_path) == before  # one round, and nothing in place of the rows
        synthesise(**options(server, tmp_path, sampling={"limit_name": "max_completion_tokens"}))
        assert server.asked[-1]["max_completion_tokens"] == 64 and len(rows_of(tmp_path)) == 48
        asked = len(server.asked)
        synthesise(**options(server, tmp_path))  # the name of a limit decides no answer
    assert len(server.asked) == asked


def test_a_question_that_is_refused_stops_nothing(tmp_path: Path) -> None:
    """One by one they fail, the more so where all others of their round are in the cache."""
    write_pairs(tmp_path)
    refused = {name.capitalize() for name in NAMES[:3]}
    with stand_in(lambda body: 400 if name_in(body) in refused else queries(body)) as server:
        for _ in range(2):
            report = synthesise(**options(server, tmp_path, generator={"at_once": 6}))
            assert report["failures"] == 3 and report["rows"]["kept"] == 42


@pytest.mark.parametrize("statuses", [(400, 422), (None, None)])
def test_a_call_that_made_no_row_leaves_those_of_an_earlier_one(tmp_path: Path, statuses: tuple) -> None:
    write_pairs(tmp_path)
    with stand_in(queries) as server:
        synthesise(**options(server, tmp_path))
        before = rows_of(tmp_path)
        server.answer = lambda body: statuses[len(server.asked) % 2]
        report = synthesise(**options(server, tmp_path, generator={"model": "other"}))
    assert report["rows"]["kept"] == 0 and report["failures"] == 24 and rows_of(tmp_path) == before
    assert "pairs.jsonl are those of an earlier call" in (tmp_path / "out/query/report.md").read_text()


@pytest.mark.parametrize("escaped", [True, False])
def test_an_answer_with_half_a_surrogate_pair_is_asked_again(tmp_path: Path, escaped: bool) -> None:
    """As an escape in the JSON that the model wrote, or in the text itself, which no cache can hold."""
    write_pairs(tmp_path)

    def answer(body: dict[str, Any]) -> str:
        if len(body["messages"]) == 1:
            return '{"queries": ["smile \\ud83d"]}' if escaped else '{"queries": ["smile \ud83d"]}'
        assert "half of a surrogate pair" in body["messages"][2]["content"]
        return queries(body)

    with stand_in(answer) as server:
        assert synthesise(**options(server, tmp_path))["rows"]["kept"] == 48
        asked = len(server.asked)
        server.answer = lambda _body: '{"queries": ["smile \\ud83d"]}'  # again and again
        report = synthesise(**options(server, tmp_path, sampling={"seed": 9}))
        assert synthesise(**options(server, tmp_path))["failures"] == 0
    assert report["failures"] == 24 and len(server.asked) == asked + 48


def test_a_picture_of_which_another_row_is_held_out_is_not_asked_about(
    tmp_path: Path, png: Callable[..., bytes]
) -> None:
    (tmp_path / "fox.png").write_bytes(png("red"))
    held = next(
        name for name in map("{}".format, range(99)) if split_of(name) == "heldout"
    )  # names the group: shortest
    rows = [
        {"query": [{"image": "fox.png"}, f"question {n}?"], "positive": name} for n, name in enumerate([*NAMES, held])
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with stand_in(queries) as server, pytest.raises(ConfigError, match="has no training row"):
        synthesise(**options(server, tmp_path))
    assert not server.asked


def test_an_endpoint_that_is_gone_stops_the_call(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    with stand_in(queries) as server:
        synthesise(**options(server, tmp_path, limit=3))
        given = options(server, tmp_path, generator={"retries": 0})
    with pytest.raises(DataError, match="write: none of 5 requests was answered: APIConnectionError"):
        synthesise(**given)
    told = json.loads((tmp_path / "out/query/report.json").read_text())
    assert (
        told["stopped"].startswith("generator: write: none of 5")
        and told["failures"] == 5
        and told["rows"]["kept"] == 6 == len(rows_of(tmp_path))
    )


def write_tier(folder: Path, task: str, records: list[Record]) -> None:
    for side in ("train", "heldout"):
        with ShardWriter(folder / task, task, side, {"one": "CC0"}) as writer:
            for record in records if side == "train" else records[:1]:
                writer.write(record)


def record(number: int, task: str, query: Content, positive: Content, **extra: Any) -> Record:
    name = NAMES[number]
    return Record(f"k{number}", task, "one", name, (Variant(query, "en"),), (Variant(positive, "en"),), extra=extra)


ANSWERS: dict[str, dict[str, Any]] = {
    "classification": {"same": "another", "different": "no", "different_label": "bird"},
    "similar": {"pairs": [{"similar": "alike", "different": "unlike"}]},
    "text_to_sql": {
        "schema": "CREATE TABLE t (a)",
        "examples": [{"question": "how many {braces}?", "sql": "SELECT 1"}],
    },
    "code_feedback": {"request": "why", "reply": "so", "follow_up": "and now", "answer": "done"},
}


@pytest.mark.parametrize("template", sorted(ANSWERS))
def test_templates_of_texts(tmp_path: Path, template: str) -> None:
    rows = [record(n, "t", Content(f"q {n}"), Content(f"text {n}"), kind="fox" if n else "") for n in range(2)]
    rows.append(record(2, "t", Content("q"), Content("made"), kind="fox", synthetic="before"))
    write_tier(tmp_path / "data/mini", "t", rows)
    with stand_in(lambda _body: json.dumps(ANSWERS[template])) as server:
        label = "kind" if template == "classification" else None
        synthesise(**options(server, tmp_path, template=template, source="mini", label=label, tasks=["t"]))
    asked = {text_of(body) for body in server.asked}
    assert len(asked) == (1 if label else 2) and any("text 1" in text for text in asked)
    made = {
        "classification": [(["text 1"], ["another"], [["no"]])],
        "similar": [(["text 1"], ["alike"], [["unlike"]])],
        "text_to_sql": [(["how many {braces}?\n\nCREATE TABLE t (a)"], ["SELECT 1"], None)],
        "code_feedback": [(["why"], ["so"], None), (["why\n\nso\n\nand now"], ["done"], None)],
    }[template]
    found = rows_of(tmp_path, template)
    wanted = [(row["query"], row["positive"], row.get("negatives")) for row in found]
    assert all(one in wanted for one in made)
    assert {row["language"] for row in found} == {"en"} and {row["concept"] for row in found} <= set(NAMES[:2])
    assert (label is None) or 'label "fox"' in asked.pop()


def test_pictures_are_shown_and_kept_and_broken_ones_listed(tmp_path: Path, png: Callable[..., bytes]) -> None:
    small, large, broken = png("red"), png("blue", (300, 40)), b"\x89PNG no picture"
    rows = [
        record(n, "p", Content(Image(data, name=f"{n}.png")), Content("caption"))
        for n, data in enumerate((small, large, broken))
    ]
    write_tier(tmp_path / "data/mini", "p", rows)

    def answer(body: dict[str, Any]) -> str:
        if "Rate" in text_of(body):
            assert "[the picture]\nwhat colour?" in text_of(body)
            return '{"score": 5}'
        return json.dumps({"questions": [{"question": "what colour?", "answer": "It is so."}]})

    with stand_in(answer) as server:
        given = options(
            server, tmp_path, template="image_questions", source="mini", image_side=100, rater={"threshold": 4}
        )
        report = synthesise(**given)
    urls = [body["messages"][0]["content"][0]["image_url"]["url"] for body in server.asked]
    shown = {base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in urls}
    assert len(urls) == 4 and len(shown) == 2 and small in shown and large not in shown
    assert report["failures"] == 1 and "cannot be read" in rows_of(tmp_path, "image_questions", "failures")[0]["reason"]
    rows_made = rows_of(tmp_path, "image_questions")
    files = {(tmp_path / "out/image_questions" / row["query"][0]["image"]).read_bytes() for row in rows_made}
    assert files == {small, large} and {row["query"][1] for row in rows_made} == {"what colour?"}
    assert build_own(tmp_path / "out/image_questions/pairs.jsonl", tmp_path / "data")["tasks"]["own"]["train"] == 2
    assert all(row.extra["synthetic"] for row in ShardReader(tmp_path / "data/own/own", "train"))


def test_a_recording_gets_paraphrases_of_its_transcript(tmp_path: Path) -> None:
    sound = sound_bytes(tone(0.2))
    write_tier(
        tmp_path / "data/mini", "s", [record(0, "s", Content(Audio(sound, name="a.wav")), Content("good morning"))]
    )

    def answer(body: dict[str, Any]) -> str:
        if "Rate" in text_of(body):
            assert "[a recording that says: good morning]" in text_of(body)
            return '{"score": 5}'
        assert "Transcript of a recording:\ngood morning\n" in text_of(body)
        return '{"paraphrases": ["hello", "Good  Morning", "hello"]}'

    with stand_in(answer) as server:
        given = {"template": "speech_paraphrase", "source": "mini", "count": 3, "rater": {"threshold": 4}}
        report = synthesise(**options(server, tmp_path, **given))
    found = rows_of(tmp_path, "speech_paraphrase")
    assert [row["positive"] for row in found] == [["hello"], ["Good  Morning"]]
    assert report["rows"]["dropped"] == {"repetition of an earlier row": 1}
    assert (tmp_path / "out/speech_paraphrase" / found[0]["query"][0]["audio"]).read_bytes() == sound


@pytest.mark.parametrize(
    "more, message",
    [
        ({"template": "nothing"}, "template: nothing cannot be read .*there are classification"),
        ({"template": "classification"}, "label: template classification needs"),
        ({"label": "concept"}, "label: template query has no use"),
        ({"template": "code_feedback", "count": 2}, "count: 2; code_feedback.yaml asks for a fixed number"),
        ({"tasks": ["t"]}, "tasks: .*pairs.jsonl has no tasks"),
        ({"source": "mini"}, "input: .*mini is no built tier"),
        ({"side": "left"}, "side: 'left'"),
        ({"attempts": 0}, "attempts: 0 is below 1"),
        ({"rater": {"threshold": 6}}, "rater.threshold: 6 is outside"),
        ({"rater": {"model": "judge"}}, "no effect without rater.threshold"),
        ({"rater": {"threshold": 3, "price": {"input": 1.0, "output": 1.0}}}, "rater.price: the generator rates"),
        ({"price": {"input": 1.0, "output": None}}, "price: give input and output"),
        ({"budget": {"requests": 0}}, "budget: requests and cost are above 0"),
        ({"sampling": {"temperature": -1.0}}, "sampling: .*below 0"),
        ({"sampling": {"limit_name": "n_predict"}}, "sampling.limit_name: 'n_predict' is none of max_tokens"),
        (
            {
                "sampling": {"limit_name": "max_completion_tokens"},
                "generator": {"backend": "local", "base_url": None},
            },
            "sampling.limit_name: has no effect with backend=local",
        ),
        ({"generator": {"base_url": None}}, "generator.base_url: needs the endpoint"),
        ({"generator": {"key_variable": "NO_SUCH_KEY"}}, "the environment has no NO_SUCH_KEY"),
        ({"generator": {"answers": "xml"}}, "generator.answers: 'xml'"),
        ({"generator": {"backend": "gguf"}}, "generator.backend: 'gguf'"),
        ({"generator": {"backend": "local"}}, "generator.base_url: has no effect with backend=local"),
        ({"generator": {"at_once": 0}}, "at_once is at least 1"),
        (
            {"template": "image_questions", "generator": {"backend": "local", "base_url": None}},
            "takes none; serve a model",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_asked(tmp_path, more, message) -> None:
    write_pairs(tmp_path)
    with stand_in(queries) as server, pytest.raises(ConfigError, match=message):
        synthesise(**options(server, tmp_path, **more))
    assert not server.asked


def test_a_key_is_sent_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pairs(tmp_path)
    monkeypatch.setenv("MY_KEY", "secret-key")
    with stand_in(queries) as server:
        synthesise(**options(server, tmp_path, limit=1, generator={"key_variable": "MY_KEY", "answers": "text"}))
    assert server.keys == {"Bearer secret-key"} and "response_format" not in server.asked[0]
    assert all("secret-key" not in path.read_text(errors="ignore") for path in tmp_path.rglob("*") if path.is_file())


def test_the_command_says_what_it_made_and_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from commonspace.cli import main

    write_pairs(tmp_path)
    places = [f"paths.{name}={tmp_path / name}" for name in ("data", "cache", "runs")]
    with stand_in(queries) as server:
        command = ["data", "synthesise", "query", str(tmp_path / "pairs.jsonl"), *places]
        endpoint = ["generator.model=m", f"generator.base_url={server.base_url}", "limit=3", "count=1"]
        assert main([*command, *endpoint, "price.input=2", "price.output=10"]) == 0
        with pytest.raises(SystemExit):
            main([*command, *endpoint, "rater.threshold=9"])
        judge = ["rater.threshold=3", "rater.backend=local", f"rater.model={tmp_path}"]
        with pytest.raises(SystemExit):  # the other back end takes none of the endpoint's options
            main([*command, *endpoint, *judge])
    said = capsys.readouterr()
    assert "HTTP Request" not in said.out + said.err
    assert len(server.asked) == 3 and "3 rows by m of 3 input rows" in said.out
    assert "rater.threshold: 9 is outside 1 to 5" in said.err and "cannot be loaded as a causal" in said.err
    assert len((tmp_path / "data/synthetic/query/pairs.jsonl").read_text().splitlines()) == 3


def test_a_question_about_a_picture_may_stand_as_a_negative_without_it() -> None:
    drawn = Content(Image(b"a picture"), "What colour is it?")
    alone, other = Content("What colour is it?"), Content("It is red")
    assert _unfit(Pair(drawn, other, (alone,)), set()) is None
    assert _unfit(Pair(alone, other, (alone,)), set()) == "a negative is the query"


def test_a_negative_that_says_what_the_query_or_the_answer_says_is_counted_and_left_out(tmp_path: Path) -> None:
    """A model may copy the text it was asked about, which is these rows' query, in letters of other kinds."""
    (tmp_path / "pairs.jsonl").write_text(
        "\n".join(json.dumps({"query": name, "positive": f"A {name} here", "concept": name}) for name in NAMES)
    )
    copied, answered = (f"A {name} here" for name in NAMES[:2])

    def answer(body: dict[str, Any]) -> str:
        given = text_of(body).split("Text:\n")[1].split("\n")[0]
        wide = copied.upper().replace("A ", "\uff21   ")  # a letter A of full width
        different = {copied: wide, answered: f"the same as {answered}"}.get(given, f"not {given}")
        return json.dumps({"pairs": [{"similar": f"The same as {given}", "different": different}]})

    with stand_in(answer) as server:
        report = synthesise(**options(server, tmp_path, template="similar"))
    assert report["rows"]["dropped"] == {"a negative is the query": 1, "a negative is the answer": 1}
    assert copied not in {row["query"][0] for row in rows_of(tmp_path, "similar")}
    assert report["rows"]["kept"] == len(NAMES) - 2
