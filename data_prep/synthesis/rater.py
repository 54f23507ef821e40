"""An auto-rater: a model scores each row from 1 to 5 by its template's criterion, and low ones are left out.

As the filters of Promptagator (arXiv 2209.11755) and Gecko (arXiv 2403.20327), with a score in place of a rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from commonspace.content import Content, Image, Text
from data_prep.synthesis.clients import Request, Sampling
from data_prep.synthesis.inputs import Input, data_url
from data_prep.synthesis.template import Pair, Template

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 5}, "reason": {"type": "string"}},
    "required": ["score"],
}
_QUESTION = """Rate a training example for a search model from 1 (wrong) to 5 (excellent).
What counts: {criterion}.

Query:
{query}

Answer:
{positive}
{negatives}
Answer with JSON: {{"score": 1 to 5, "reason": "a few words"}}"""
_NEGATIVES = """
Wrong answers, which must not be right:
{negatives}
"""


def rating_request(template: Template, given: Input, pair: Pair, sampling: Sampling, image_side: int) -> Request:
    """The question about one row. Pictures are shown; for a recording stands its transcript."""
    negatives = "\n".join(_shown(content, given) for content in pair.negatives)
    text = _QUESTION.format(
        criterion=template.criterion.format(label=given.label),
        query=_shown(pair.query, given),
        positive=_shown(pair.positive, given),
        negatives=_NEGATIVES.format(negatives=negatives) if negatives else "",
    )
    images = [part for content in (pair.query, pair.positive) for part in content.parts if isinstance(part, Image)]
    return Request((message(text, images, image_side),), SCHEMA, sampling)


def message(text: str, images: list[Image], image_side: int) -> Mapping[str, Any]:
    """A message of the user: a text, after the pictures that it is about."""
    if not images:
        return {"role": "user", "content": text}
    shown = [{"type": "image_url", "image_url": {"url": data_url(image, image_side)}} for image in images]
    return {"role": "user", "content": [*shown, {"type": "text", "text": text}]}


def _shown(content: Content, given: Input) -> str:
    lines = []
    for part in content.parts:
        if isinstance(part, Text):
            lines.append(part.text)
        else:
            lines.append("[the picture]" if isinstance(part, Image) else f"[a recording that says: {given.text}]")
    return "\n".join(lines)
