"""What a model is asked of a row, the JSON it must answer with, and the rows that are made of that: YAML files."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from commonspace.content import Content
from commonspace.errors import ConfigError

FOLDER = Path(__file__).with_name("templates")
_MEDIA = ("text", "image", "audio")
_ASKED = {"text", "label", "count"}  # what a question may name
_KEYS = {"needs", "asks", "count", "schema", "rows", "criterion"}
_ROW_KEYS = {"each", "query", "positive", "negatives"}


@dataclass(frozen=True)
class Pair:
    """A row as a model wrote it, before anybody rated it."""

    query: Content
    positive: Content
    negatives: tuple[Content, ...]


@dataclass(frozen=True)
class Template:
    """One kind of synthetic row.

    needs      which sides an input row has to have: text, image, audio; an image is shown to the model
    asks       the question, with {text}, {label} and {count} filled in
    schema     JSON schema of the answer
    rows       how an answer becomes rows: `each` names a list of it, contents are texts with fields of the answer (and
               of the list's item, {item} where that is a text) or the input's own $text, $image and $audio
    criterion  what the rater holds a row to, with {label}
    """

    name: str
    needs: tuple[str, ...]
    asks: str
    schema: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    criterion: str
    count: int | None = None

    @property
    def uses_label(self) -> bool:
        return "label" in _fields(self.asks) | _fields(self.criterion)

    def question(self, text: str, label: str) -> str:
        """The question about one input."""
        return self.asks.format(text=text, label=label, count=self.count)

    def pairs(self, answer: Mapping[str, Any], sides: Mapping[str, Content]) -> Iterator[Pair]:
        """The rows of an answer; of a list no more than were asked for."""
        for spec in self.rows:
            for item in answer[spec["each"]][: self.count] if "each" in spec else [{}]:
                fields = {**answer, **(item if isinstance(item, dict) else {"item": item})}
                made = [_content(parts, fields, sides) for parts in (spec["query"], spec["positive"])]
                yield Pair(*made, tuple(_content(parts, fields, sides) for parts in spec.get("negatives", ())))


def parse_json(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The first JSON object of a text, whatever stands around it, valid by the schema; ValueError: what is wrong."""
    import jsonschema

    start = text.find("{")
    if start < 0:
        raise ValueError("it holds no JSON object")
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    except UnicodeEncodeError as error:  # a ValueError too, which would quote all of it
        raise ValueError("a text of it holds half of a surrogate pair, as \\ud83d alone is") from error
    problem = next(iter(jsonschema.Draft202012Validator(schema).iter_errors(value)), None)
    if problem is not None:
        raise ValueError(f"{problem.json_path}: {problem.message[:200]}")
    return value


def load_template(name: str, count: int | None = None) -> Template:
    """A template of this package by name, or one of the user's own by the path of its YAML file.

    Raises:
        ConfigError: there is none, it is not sound, or `count` is given and it has no use for it.
    """
    path = Path(name) if name.endswith(".yaml") else FOLDER / f"{name}.yaml"
    known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
    try:
        found = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, YAMLError) as error:
        raise ConfigError(
            f"template: {name} cannot be read ({error}); there are {known}, or give a .yaml file"
        ) from error
    if not isinstance(found, dict) or not _KEYS - {"count"} <= found.keys() <= _KEYS:
        raise ConfigError(f"template: {path} is no mapping of {', '.join(sorted(_KEYS))}; only count may be missing")
    template = Template(
        path.stem,
        tuple(found["needs"]),
        found["asks"],
        found["schema"],
        tuple(found["rows"]),
        found["criterion"],
        found.get("count"),
    )
    _check(template, path)
    if count is None:
        return template
    if "count" not in _fields(template.asks) or count < 1:
        raise ConfigError(f"count: {count}; {path.name} asks for a fixed number, or it is below 1; leave it out")
    return Template(**{**template.__dict__, "count": count})


def _check(template: Template, path: Path) -> None:
    """Whatever would fail only once answers have been paid for."""
    try:
        import jsonschema
    except ImportError as error:
        raise ConfigError(f"template: {error}; pip install 'commonspace[synthesis]'") from error

    problems = []
    if not template.needs or set(template.needs) - set(_MEDIA):
        problems.append(f"needs {list(template.needs)}, where {', '.join(_MEDIA)} are known")
    named = _fields(template.asks)
    if named - _ASKED or _fields(template.criterion) - {"label"}:
        problems.append(f"asks with {sorted(named)}; known are {sorted(_ASKED)}, in criterion label")
    if ("count" in named) != isinstance(template.count, int):
        problems.append("count is a number where asks has {count}, and only there")
    if "text" in named and "text" not in template.needs:
        problems.append("asks with {text}, which needs does not have")
    try:
        jsonschema.Draft202012Validator.check_schema(template.schema)
    except jsonschema.SchemaError as error:
        problems.append(f"schema: {error.message}")
    else:
        problems += [fault for row in template.rows for fault in _row_faults(row, template)]
    if problems:
        raise ConfigError(f"template: {path}: " + "; ".join(problems))


def _row_faults(row: Mapping[str, Any], template: Template) -> Iterator[str]:
    if not {"query", "positive"} <= row.keys() <= _ROW_KEYS:
        yield f"a row has {sorted(row)}; it takes query, positive, and each, negatives"
        return
    required = set(template.schema.get("required", ()))
    fields = set(required)
    if "each" in row:
        listed = template.schema.get("properties", {}).get(row["each"], {}).get("items")
        if row["each"] not in required or listed is None:
            yield f"each: {row['each']} is no required list of the schema"
            return
        fields |= set(listed.get("required", ())) if listed.get("type") == "object" else {"item"}
    for part in (part for parts in (row["query"], row["positive"], *row.get("negatives", ())) for part in parts):
        if part.startswith("$"):
            if part[1:] not in template.needs:
                yield f"{part} is not among needs"
        elif unknown := _fields(part) - fields:
            yield f"{part!r} names {', '.join(sorted(unknown))}, which the schema does not require"


def _content(parts: list[str], fields: Mapping[str, Any], sides: Mapping[str, Content]) -> Content:
    made: list[Any] = []
    for part in parts:
        made += sides[part[1:]].parts if part.startswith("$") else [part.format_map(fields)]
    return Content(*made)


def _fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
