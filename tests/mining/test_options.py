"""What mining's config refuses before anything loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from commonspace.configuration import compose
from commonspace.errors import ConfigError
from commonspace.mining.options import MiningOptions, TeacherOptions, teachers_of

GIVEN = ["embedder=models/x"]
CROSS = {"kind": "cross_encoder", "model": "m"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"margin": 0.0},
        {"teacher_margin": 1.5},
        {"skip": 98, "depth": 100},
        {"absolute_margin": -0.1},
        {"duplicate": 1.0},
        {"min_score": 0.5, "max_score": 0.4},
        {"selection": "best"},
        {"selection": "rank"},
        {"rank": 20},
        {"selection": "rank", "rank": 101},
        {"selection": "rank", "rank": 3, "skip": 3},
    ],
)
def test_options_out_of_range(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="mining"):
        MiningOptions(**wrong)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("models/x", "must be a mapping with kind"),
        ({"kind": "oracle"}, "must be a mapping with kind"),
        ({"kind": "embedder"}, "kind=embedder needs model"),
        ({"kind": "scores", "file": "x", "batch": 3}, "kind=scores does not read batch"),
        (CROSS | {"batch": 0}, "batch=0 .* must be a whole number"),
        ({"kind": "generative", "model": "m", "max_tokens": 0}, "max_tokens=0 .* must be a whole number"),
        ({"kind": "transcriber", "model": "m", "max_tokens": 9}, "kind=transcriber does not read max_tokens"),
        ({"kind": "generative", "model": "m", "signal": "loud"}, "signal='loud' is none of grade, likelihood"),
        ({"kind": "generative", "model": "m", "signal": "likelihood", "answers": ["a", "b"]}, "does not read them"),
        ({"kind": "generative", "model": "m", "answers": ["yes"]}, "at least two words"),
        ({"kind": "generative", "model": "m", "precision": "float16"}, "float32 or bfloat16"),
    ],
)
def test_teachers_that_are_refused(entry: object, told: str) -> None:
    with pytest.raises(ConfigError, match=f"teachers: .*{told}"):
        TeacherOptions.of(entry)


def test_teachers_have_their_defaults_and_a_name() -> None:
    cross, asked = TeacherOptions.of(CROSS), TeacherOptions.of({"kind": "generative", "model": "m"})
    assert cross.given == {"model": "m", "batch": 16, "max_tokens": 512} and cross.name == "cross_encoder m"
    assert asked.name == "generative grade m" and asked.given["answers"] == ("no", "yes")
    assert asked.given["max_tokens"] == 8192
    with pytest.raises(ConfigError, match="cross_encoder m is named twice"):
        teachers_of([CROSS, dict(CROSS)], MiningOptions())
    with pytest.raises(ConfigError, match="teacher_margin: has no effect without teachers"):
        teachers_of([], MiningOptions(teacher_margin=0.9))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["selection=rank"], "mining rank=None goes with selection=rank"),
        (["order=search"], "mining order=search leaves teachers their margin alone; set teacher_margin"),
        (["order=rank"], "mining order='rank' is none of teachers, search"),
        (["teacher_margin=0.9"], "teacher_margin: has no effect without teachers"),
        (["teachers=[{kind:embedder}]"], "kind=embedder needs model"),
        (["search=faiss"], "search: 'faiss' is none of exact, approximate"),
        (["graph_rows=5"], "graph_rows: has no effect on search=exact"),
        (["expansion=9"], "expansion: has no effect on search=exact"),
        (["directions=[]"], "directions: .* must be some of forward, reverse"),
        (["directions=[back]"], "directions: .* must be some of forward, reverse"),
        (["chunk=0"], "chunk: 0 is outside"),
        (["memory=-1"], "memory: -1 is outside"),
        (["search=approximate", "graph_rows=0"], "graph_rows: 0 is outside"),
    ],
)
def test_configs_that_are_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compose("mine", [*GIVEN, *words])


@pytest.mark.parametrize(
    "words",
    [
        ["selection=rank", "rank=20", "count=1"],
        ["selection=lowest", "depth=20", "teachers=[{kind:embedder,model:models/y},{kind:scores,file:'a/{task}.csv'}]"],
        ["search=approximate", "graph_rows=1000", "expansion=64", "directions=[forward,reverse]", "teachers=[]"],
        ["teachers=[{kind:generative,model:m,answers:['0','1','2']}]", "teacher_margin=0.9", "margin=null"],
    ],
)
def test_configs_that_pass(words: list[str]) -> None:
    assert compose("mine", [*GIVEN, *words])


def test_options_bring_nothing_heavy() -> None:
    probe = "import sys, commonspace.mining.options; print([m for m in ('torch', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
