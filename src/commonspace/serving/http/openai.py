"""The OpenAI embeddings form: texts in, one vector each, as floats or as base64 of float32."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import StrictInt, StrictStr

from commonspace.content import Content
from commonspace.serving.http.bodies import FIRST, Strict
from commonspace.serving.http.errors import Refused
from commonspace.serving.http.service import Answer, Asked, Fields, Service

FIELDS = Fields("input", "dimensions")
_Texts = Annotated[list[StrictStr], FIRST]
_Numbers = Annotated[list[StrictInt], FIRST]


class Request(Strict):
    """The body. `user` names an end user and changes nothing; `task` and `role` are ours, and choose the prefix."""

    model: StrictStr
    input: StrictStr | _Texts | _Numbers | Annotated[list[_Numbers], FIRST]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: StrictInt | None = None
    user: StrictStr | None = None
    task: StrictStr | None = None
    role: Literal["query", "document"] | None = None


async def embeddings(service: Service, request: Request) -> dict[str, Any]:
    """The body of the answer; Refused for token numbers, which are another tokenizer's, and for empty texts."""
    service.check_name(request.model)
    texts = [request.input] if isinstance(request.input, str) else request.input
    asked = [
        Asked(_content(text, number), request.task, request.role, f"input[{number}]")
        for number, text in enumerate(texts)
    ]
    answer = await service.answer(asked, request.dimensions, FIELDS)
    return _body(answer, request)


def _content(text: Any, number: int) -> Content:
    if not isinstance(text, str):
        raise Refused("token numbers are those of another tokenizer; send the text itself", "input")
    if not text:
        raise Refused("is an empty text; leave it out", f"input[{number}]")
    return Content(text)


def _body(answer: Answer, request: Request) -> dict[str, Any]:
    rows = [_encoded(row_D, request.encoding_format) for row_D in answer.vectors_ND]
    tokens = sum(answer.tokens)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": request.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _encoded(row_D: np.ndarray, form: str) -> str | list[float]:
    little = row_D.astype("<f4", copy=False)
    return base64.b64encode(little.tobytes()).decode() if form == "base64" else little.tolist()


def models(service: Service) -> dict[str, Any]:
    """The list of models: one under each of its names."""
    return {"object": "list", "data": [model(name) for name in service.names]}


def model(name: str) -> dict[str, Any]:
    """One entry of that list."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "commonspace"}
