"""The Gemini form, `embedContent` and `batchEmbedContents`: the parts of a content in, one vector out.

Names come in camel case or snake case, as clients mix them.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from pydantic import AliasChoices, Field, StrictInt, StrictStr

from commonspace.content import Content as OurContent
from commonspace.content import Part as OurPart
from commonspace.content import Text
from commonspace.serving.http.bodies import FIRST, Strict
from commonspace.serving.http.errors import Refused
from commonspace.serving.http.service import Answer, Asked, Fields, Service, decoded, medium

# taskType: the task and role of ours. Tasks that compare like with like write both sides alike.
TASKS: dict[str, tuple[str | None, str | None]] = {
    "TASK_TYPE_UNSPECIFIED": (None, None),
    "RETRIEVAL_QUERY": ("search result", "query"),
    "RETRIEVAL_DOCUMENT": ("search result", "document"),
    "SEMANTIC_SIMILARITY": ("sentence similarity", "query"),
    "CLASSIFICATION": ("classification", "query"),
    "CLUSTERING": ("clustering", "query"),
    "QUESTION_ANSWERING": ("question answering", "query"),
    "FACT_VERIFICATION": ("fact checking", "query"),
    "CODE_RETRIEVAL_QUERY": ("code retrieval", "query"),
}
FIELDS = Fields("requests", "outputDimensionality")
_UNTITLED = "title: none |"


def _either(snake: str, camel: str) -> Any:
    return Field(default=None, validation_alias=AliasChoices(camel, snake))


class Blob(Strict):
    """Bytes of a medium, in base64."""

    mime_type: StrictStr = Field(validation_alias=AliasChoices("mimeType", "mime_type"))
    data: StrictStr
    display_name: StrictStr | None = _either("display_name", "displayName")


class Part(Strict):
    """A text, or a medium; files are named by address and never fetched."""

    text: StrictStr | None = None
    inline_data: Blob | None = _either("inline_data", "inlineData")
    file_data: Any = _either("file_data", "fileData")


class Content(Strict):
    """Parts in their order; the role says nothing to an embedding."""

    parts: Annotated[list[Part], FIRST]
    role: StrictStr | None = None


class Request(Strict):
    """The body of embedContent, and one of several of batchEmbedContents."""

    model: StrictStr | None = None
    content: Content
    task_type: StrictStr | None = _either("task_type", "taskType")
    title: StrictStr | None = None
    output_dimensionality: StrictInt | None = _either("output_dimensionality", "outputDimensionality")


class Batch(Strict):
    """The body of batchEmbedContents."""

    requests: Annotated[list[Request], FIRST]


async def embed(service: Service, name: str, request: Request) -> dict[str, Any]:
    """The answer to embedContent."""
    answer = await _answer(service, name, [request], "")
    return {"embedding": _values(answer)[0], **_usage(answer)}


async def batch_embed(service: Service, name: str, batch: Batch) -> dict[str, Any]:
    """The answer to batchEmbedContents; all its requests want one size."""
    answer = await _answer(service, name, batch.requests, "requests")
    return {"embeddings": _values(answer), **_usage(answer)}


async def _answer(service: Service, name: str, requests: list[Request], within: str) -> Answer:
    service.check_name(name)
    for request in requests:
        if request.model is not None and request.model.removeprefix("models/") != name:
            raise Refused(f"a request to {name} names the model {request.model!r:.120}", "model")
    sizes = {request.output_dimensionality for request in requests}
    if len(sizes) > 1:
        raise Refused("the requests of a batch want several sizes; send each size by itself", "outputDimensionality")
    places = [f"{within}[{number}].content" if within else "content" for number in range(len(requests))]
    pairs = list(zip(requests, places, strict=True))
    asked = await asyncio.to_thread(lambda: [_asked(service, request, where) for request, where in pairs])
    return await service.answer(asked, next(iter(sizes), None), FIELDS)


def _asked(service: Service, request: Request, where: str) -> Asked:
    parts = [_part(service, part, f"{where}.parts[{number}]") for number, part in enumerate(request.content.parts)]
    if not parts:
        raise Refused("holds no part", where)
    content = OurContent(*parts)
    kind = request.task_type or "TASK_TYPE_UNSPECIFIED"
    if kind not in TASKS:
        raise Refused(f"{kind!r:.80} is none of {', '.join(TASKS)}", "taskType")
    task, role = TASKS[kind]
    if request.title is not None:
        return Asked(_titled(service, content, request.title, role), where=where)
    return Asked(content, task, role, where)


def _titled(service: Service, content: OurContent, title: str, role: str | None) -> OurContent:
    """A document's text behind its prefix, its own title in the place of none; media take neither."""
    if role != "document":
        raise Refused("a title has no effect without taskType RETRIEVAL_DOCUMENT", "title")
    if not content.is_text:
        return content
    prefix = service.model.processor.preprocessing.prefixes.get("search result", {}).get("document", "")
    if _UNTITLED not in prefix:
        raise Refused("this model's prefix of documents has no title", "title")
    first, *rest = content.parts
    return OurContent(Text(prefix.replace(_UNTITLED, f"title: {title} |") + first.text), *rest)


def _part(service: Service, part: Part, where: str) -> OurPart:
    if part.file_data is not None:
        raise Refused("no address is fetched; send the bytes as inlineData", f"{where}.fileData")
    if (part.text is None) == (part.inline_data is None):
        raise Refused("a part has either text or inlineData", where)
    if part.inline_data is None:
        if not part.text:
            raise Refused("is an empty text; leave it out", where)
        return Text(part.text)
    where = f"{where}.inlineData"
    return medium(part.inline_data.mime_type, decoded(part.inline_data.data, service.limits.media_bytes, where), where)


def _values(answer: Answer) -> list[dict[str, Any]]:
    return [{"values": row_D.tolist()} for row_D in answer.vectors_ND]


def _usage(answer: Answer) -> dict[str, Any]:
    return {"usageMetadata": {"promptTokenCount": sum(answer.tokens)}}
