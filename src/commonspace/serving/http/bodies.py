"""Bodies to requests: JSON whose lists are no longer than what is answered, then each field as an interface has it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from commonspace.serving.http.errors import Refused

FIRST = Field(fail_fast=True)  # of a list: it ends at its first error, thousands would take gigabytes
PARTS = 8192  # of all contents of a request
_FIELDS = 32  # of one object: of more, each unknown one would be an error of its own
Body = TypeVar("Body", bound=BaseModel)


class Strict(BaseModel):
    """An object of known fields and no others."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _FIELDS:
            raise ValueError(f"has {len(value)} fields, no object takes so many")
        return value


def parse(data: bytes | bytearray, kind: type[Body], contents: int) -> Body:
    """The body as `kind`.

    Raises Refused that names the field: for what is no JSON, for more than so many `contents` or than PARTS, and for
    the first field that is not as it has to be.
    """
    try:
        value = json.loads(data)
        _check_lengths(value, contents)
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Refused(first["msg"], _field(value, first["loc"], first["type"] == "missing")) from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"the body is no JSON ({error})") from error


def _check_lengths(value: Any, contents: int) -> None:
    """Refuse what is too long to be answered, before any of it is looked at; token numbers are refused later."""
    if not isinstance(value, dict):
        return
    for name in ("input", "requests"):
        asked = value.get(name)
        if isinstance(asked, list) and len(asked) > contents and not isinstance(asked[0], int):
            raise Refused(f"{len(asked)} contents are asked for, at most {contents} are answered at once", name)
    requests = value.get("requests")
    several = isinstance(requests, list)
    if (count := sum(map(_parts, requests if several else [value]))) > PARTS:
        raise Refused(f"{count} parts are sent, at most {PARTS} are taken", "requests" if several else "content.parts")


def _parts(request: Any) -> int:
    content = request.get("content") if isinstance(request, dict) else None
    parts = content.get("parts") if isinstance(content, dict) else None
    return len(parts) if isinstance(parts, list) else 0


def _field(value: Any, place: Sequence[str | int], missing: bool) -> str:
    """A place in a body as "content.parts[1].text"; what pydantic adds to it, names of alternatives, is left out."""
    told = ""
    for number, key in enumerate(place):
        last = number == len(place) - 1
        if isinstance(value, dict) and (key in value or (last and missing)):
            told += f".{key}" if told else str(key)
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int):
            told += f"[{key}]"
            value = value[key]
    return told
