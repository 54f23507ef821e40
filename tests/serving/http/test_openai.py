"""The real `openai` client on a real server gets our vectors; what it may not ask is said."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import openai
import pytest

from tests.serving.http.conftest import Served

TEXTS = ["a red fox", "a blue bird in the snow"]


@pytest.fixture(scope="module")
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0)


def test_vectors_are_ours(client: openai.OpenAI, served: Served) -> None:
    """The client asks for base64 by itself, and reads floats where it is told to."""
    expected_NE = served.model.embed(TEXTS)
    for options in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model="fox", input=TEXTS, **options)
        np.testing.assert_allclose([one.embedding for one in answer.data], expected_NE, atol=1e-5)
        assert [one.index for one in answer.data] == [0, 1] and answer.model == "fox"
        tokens = sum(served.model.processor(text_content(text)).tokens for text in TEXTS)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == tokens


def text_content(text: str) -> Any:
    from commonspace import Content

    return Content(text)


def test_base64_is_little_endian_float32(served: Served) -> None:
    body = {"model": "fox", "input": "a red fox", "encoding_format": "base64"}
    encoded = served.post("/v1/embeddings", body).json()["data"][0]["embedding"]
    found_E = np.frombuffer(base64.b64decode(encoded), "<f4")
    np.testing.assert_allclose(found_E, served.model.embed(["a red fox"])[0], atol=1e-5)


def test_dimensions_are_matryoshka_prefixes(client: openai.OpenAI, served: Served) -> None:
    answer = client.embeddings.create(model="fox", input="a red fox", dimensions=8)
    np.testing.assert_allclose(answer.data[0].embedding, served.model.embed(["a red fox"], dim=8)[0], atol=1e-5)


def test_a_task_chooses_the_prefix(client: openai.OpenAI, served: Served) -> None:
    extra = {"task": "search result", "role": "query"}
    found = client.embeddings.create(model="fox", input="a fox", extra_body=extra).data[0].embedding
    np.testing.assert_allclose(found, served.model.embed(["a fox"], **extra)[0], atol=1e-5)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["fox", "gemini-fox"]
    assert client.models.retrieve("gemini-fox").owned_by == "commonspace"
    with pytest.raises(openai.NotFoundError, match="there is no model 'hen'"):
        client.models.retrieve("hen")


@pytest.mark.parametrize(
    "body, status, message, field",
    [
        ({"model": "hen", "input": "a"}, 404, "there is no model 'hen'; served is fox, gemini-fox", "model"),
        ({"model": "fox"}, 400, "Field required", "input"),
        ({"model": "fox", "input": ""}, 400, "is an empty text", "input[0]"),
        ({"model": "fox", "input": ["a", ""]}, 400, "is an empty text", "input[1]"),
        ({"model": "fox", "input": []}, 400, "holds no content", "input"),
        ({"model": "fox", "input": [1, 2]}, 400, "another tokenizer", "input"),
        ({"model": "fox", "input": [[1, 2]]}, 400, "another tokenizer", "input"),
        ({"model": "fox", "input": ["a"] * 9}, 400, "9 contents are asked for, at most 8", "input"),
        ({"model": "fox", "input": "fox " * 70}, 400, "has 72 tokens, at most 64 are taken", "input[0]"),
        ({"model": "fox", "input": "a", "dimensions": 33}, 400, "dim=33 is outside 1..32", "dimensions"),
        ({"model": "fox", "input": "a", "dimensions": 0}, 400, "dim=0 is outside 1..32", "dimensions"),
        ({"model": "fox", "input": "a", "dimensions": "8"}, 400, "valid integer", "dimensions"),
        ({"model": "fox", "input": "a", "encoding_format": "hex"}, 400, "'float' or 'base64'", "encoding_format"),
        ({"model": "fox", "input": "a", "dimension": 8}, 400, "Extra inputs are not permitted", "dimension"),
        (
            {"model": "fox", "input": "a", "task": "x", "role": "query"},
            400,
            "no prefix is known for task='x'",
            "input[0]",
        ),
        ({"model": "fox", "input": "a", "role": "query"}, 400, "has no effect without a task", "input[0]"),
        ({"model": "fox", "input": "\ud800"}, 400, "half of a surrogate pair", "input[0]"),
        ({"model": "fox", "input": ["a", None]}, 400, "valid string", "input"),
        ({"model": "fox", "input": {"text": "a"}}, 400, "valid string", "input"),
        ({"model": 3, "input": "a"}, 400, "valid string", "model"),
        ({"model": "fox", "input": [7] * 9}, 400, "another tokenizer", "input"),
        ({"model": "fox", "input": "a", **{f"x{n}": 1 for n in range(40)}}, 400, "has 42 fields", None),
        ([], 400, "valid dictionary", None),
        (3, 400, "valid dictionary", None),
    ],
)
def test_bad_requests_say_what_is_wrong(
    body: Any, status: int, message: str, field: str | None, served: Served
) -> None:
    answer = served.post("/v1/embeddings", body)
    error = answer.json()["error"]
    assert answer.status_code == status and message in error["message"], error
    assert error["param"] == field and error["type"] == (
        "not_found_error" if status == 404 else "invalid_request_error"
    )


def test_the_client_raises_what_it_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="dim=99 is outside 1..32"):
        client.embeddings.create(model="fox", input="a", dimensions=99)
