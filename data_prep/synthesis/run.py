"""`commonspace data synthesise`: rows of a tier, or one's own, to pairs that a model wrote and a rater let pass.

Rows are asked about in rounds. Each answer is in the cache before the next step, so a call that was killed goes on by
reading them; what it writes is the same as if it had not been.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image as PILImage
from rich.progress import Progress

from commonspace.content import Content, Image
from commonspace.errors import CommonspaceError, ConfigError, DataError
from commonspace.evaluation.relevance import normalise
from commonspace.files import replaced, write_json, write_text
from data_prep.build import build_progress
from data_prep.synthesis import statement
from data_prep.synthesis.asking import UNASKED, Asker
from data_prep.synthesis.bill import Bill, Price
from data_prep.synthesis.cache import AnswerCache
from data_prep.synthesis.clients import ClientOptions, Failure, Request, Sampling, make_client
from data_prep.synthesis.inputs import Input, Inputs, Selection
from data_prep.synthesis.rater import message, rating_request
from data_prep.synthesis.statement import Result
from data_prep.synthesis.template import Pair, Template, load_template

_ROUNDS_AHEAD = 4  # inputs of a round, in units of the requests that are on their way together
_RATING_TOKENS = 256


@dataclass(frozen=True)
class RaterOptions:
    """`threshold`: the least score that is kept, None: no rating. `generator`: another model than the writer."""

    threshold: float | None = None
    generator: ClientOptions | None = None
    price: Price = field(default_factory=Price)

    def __post_init__(self) -> None:
        if self.threshold is None and self.generator is not None:
            raise ConfigError("rater: a model, backend, base_url or key_variable has no effect without rater.threshold")
        if self.generator is None and self.price.input is not None:
            raise ConfigError("rater.price: the generator rates, at its own price; leave it out")
        if self.threshold is not None and not 1 <= self.threshold <= 5:
            raise ConfigError(f"rater.threshold: {self.threshold} is outside 1 to 5")


@dataclass(frozen=True)
class Options:
    """What is asked, of whom, and for how much: see configs/data_synthesise.yaml."""

    template: str
    source: str
    output: Path
    generator: ClientOptions
    sampling: Sampling
    price: Price
    rater: RaterOptions
    count: int | None = None
    side: str = "positive"
    label: str | None = None
    tasks: Sequence[str] | None = None
    limit: int | None = None
    characters: int = 6000
    image_side: int = 1024
    attempts: int = 2
    budget_requests: int | None = None
    budget_cost: float | None = None

    def __post_init__(self) -> None:
        if self.side not in ("query", "positive"):
            raise ConfigError(f"side: {self.side!r} is none of query, positive")
        for name in ("limit", "characters", "image_side", "attempts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: {value} is below 1")


def synthesise(options: Options, data: Path, cache: Path) -> dict[str, Any]:
    """Write `pairs.jsonl` (as `data build own` reads it), `failures.jsonl`, `report.json`, `report.md` and `media/` to
    a folder of the template's name in `options.output`; return the report. A call that made no row leaves the pairs
    of an earlier one.

    Raises:
        ConfigError: the options contradict one another, or the generator refuses all requests.
        DataError: the endpoint does not answer; what was made before is written.
    """
    template = load_template(options.template, options.count)
    output = options.output / template.name
    _check(template, options)
    selection = Selection(template.needs, options.side, options.label, options.tasks, options.limit)
    inputs = Inputs(options.source, data, selection)
    answers = AnswerCache(cache / "synthesis.sqlite")
    bill = Bill(options.budget_requests, options.budget_cost)
    client = make_client(options.generator)
    write = Asker("write", client, answers, bill, options.price, options.attempts)
    rate = None
    if options.rater.threshold is not None:
        other = options.rater.generator
        judge, price = (client, options.price) if other is None else (make_client(other), options.rater.price)
        rate = Asker("rate", judge, answers, bill, price, options.attempts)
    result, began, problem = Result(), time.monotonic(), None
    try:
        with build_progress() as progress:
            _rounds(template, inputs, options, write, rate, bill, result, progress)
        if bill.unanswered:
            raise DataError(f"generator: {bill.unanswered}")
    except KeyboardInterrupt:
        bill.stopped = "interrupted"
    except CommonspaceError as error:
        bill.stopped, problem = str(error), error
    finally:
        answers.close()
    report = statement.report(options, template, len(inputs), result, bill, time.monotonic() - began)
    report["pairs_of_earlier_call"] = not result.rows and _has_rows(output / "pairs.jsonl")
    if problem is None or result.rows:  # an error before the first row leaves what an earlier call wrote
        _write(output, result, report)
    if problem is not None:
        raise problem
    print(statement.page(report))
    return report


def _check(template: Template, options: Options) -> None:
    """Options that this template or its back ends have no use for, or lack."""
    if template.uses_label and options.label is None:
        raise ConfigError(
            f"label: template {template.name} needs a row's label; name concept, or a field of a tier's rows"
        )
    if options.label is not None and not template.uses_label:
        raise ConfigError(f"label: template {template.name} has no use for it; leave it out")
    rated_by = [options.rater.generator] if options.rater.generator else []
    if options.sampling.limit_name != "max_tokens" and all(
        one.backend == "local" for one in (options.generator, *rated_by)
    ):
        raise ConfigError("sampling.limit_name: has no effect with backend=local; leave it out")
    if "image" in template.needs and options.generator.backend == "local":
        raise ConfigError(
            f"generator.backend: template {template.name} shows images, and a local causal language model takes none; "
            "serve a model that does behind an OpenAI-compatible endpoint and give its base_url with backend=openai"
        )


def _rounds(
    template: Template,
    inputs: Inputs,
    options: Options,
    write: Asker,
    rate: Asker | None,
    bill: Bill,
    result: Result,
    progress: Progress,
) -> None:
    bar = progress.add_task(f"write {template.name}", total=len(inputs))
    waiting = iter(inputs)
    while not (bill.stopped or bill.unanswered) and (
        chunk := list(islice(waiting, write.client.at_once * _ROUNDS_AHEAD))
    ):
        written = _written(template, chunk, options, write, result)
        kept = _rated(template, written, options, rate, result)
        for given, number, pair in kept:
            result.rows.append(_row(template, given, number, pair, options))
        progress.update(bar, completed=result.inputs, description=f"write {template.name}: {len(result.rows)} rows")
    progress.update(bar, total=result.inputs)


Written = tuple[Input, int, Pair]


def _written(
    template: Template, chunk: Sequence[Input], options: Options, write: Asker, result: Result
) -> list[Written]:
    """The rows that the model made of some inputs."""
    requests: list[tuple[Input, Request]] = []
    for given in chunk:
        images = (
            [part for part in given.sides["image"].parts if isinstance(part, Image)] if "image" in given.sides else []
        )
        question = template.question(given.text[: options.characters], given.label)
        try:
            shown = message(question, images, options.image_side)
        except (CommonspaceError, OSError, ValueError, PILImage.DecompressionBombError) as error:
            _fail(result, given, "read", Failure(f"the picture cannot be read ({error})"))
            continue
        requests.append((given, Request((shown,), template.schema, options.sampling)))
    found: list[Written] = []
    for (given, _), answer in zip(requests, write.ask([request for _, request in requests]), strict=True):
        if isinstance(answer, Failure):
            _fail(result, given, "write", answer)
            continue
        result.inputs += 1
        for number, pair in enumerate(template.pairs(answer, given.sides)):
            if reason := _unfit(pair, result.seen):
                result.drops[reason] += 1
            else:
                found.append((given, number, pair))
    return found


def _unfit(pair: Pair, seen: set[tuple[int, int]]) -> str | None:
    identity = (pair.query.digest(), pair.positive.digest())
    if any(content.is_text and not _words(content) for content in (pair.query, pair.positive, *pair.negatives)):
        return "a side is blank"
    if _words(pair.query) == _words(pair.positive) and pair.query.is_text and pair.positive.is_text:
        return "both sides are one text"
    for what, side in (("answer", pair.positive), ("query", pair.query)):
        if side.is_text and any(content.is_text and _words(content) == _words(side) for content in pair.negatives):
            return f"a negative is the {what}"
    if identity in seen:
        return "repetition of an earlier row"
    seen.add(identity)
    return None


def _words(content: Content) -> list[str]:
    """Of its texts, in the form in which evaluations take two texts for the same."""
    return [word for part in content.parts for word in normalise(getattr(part, "text", "")).split()]


def _rated(
    template: Template, written: Sequence[Written], options: Options, rate: Asker | None, result: Result
) -> list[Written]:
    """Those rows whose score is high enough."""
    if rate is None:
        return list(written)
    sampling = replace(options.sampling, temperature=0.0, top_p=1.0, max_tokens=_RATING_TOKENS)
    requests = [rating_request(template, given, pair, sampling, options.image_side) for given, _, pair in written]
    kept = []
    for row, answer in zip(written, rate.ask(requests), strict=True):
        if isinstance(answer, Failure):
            result.drops["not rated"] += 1
            _fail(result, row[0], "rate", answer)
            continue
        result.scores[answer["score"]] += 1
        if answer["score"] >= options.rater.threshold:
            kept.append(row)
        else:
            result.drops[f"score below {options.rater.threshold:g}"] += 1
    return kept


def _fail(result: Result, given: Input, stage: str, failure: Failure) -> None:
    if failure is not UNASKED:  # what a spent budget leaves is the rest of the input, no failure
        result.inputs += stage != "rate"
        result.failures.append({"input": given.key, "stage": stage, "reason": failure.reason})


def _row(template: Template, given: Input, number: int, pair: Pair, options: Options) -> dict[str, Any]:
    """As `data build own` reads it; media are put beside it under the hash of their bytes."""

    def name_media(medium: Any) -> str:
        data = medium.read_bytes()
        ending = Path(medium.label).suffix or ".bin"
        name = f"media/{hashlib.blake2b(data, digest_size=12).hexdigest()}{ending}"
        path = options.output / template.name / name
        if not path.is_file():
            with replaced(path) as partial:
                partial.write_bytes(data)
        return name

    row = {
        "query": pair.query.to_json(name_media),
        "positive": pair.positive.to_json(name_media),
        "concept": given.concept,
        "key": f"{template.name}/{given.key}/{number}",
        "synthetic": f"{template.name} by {options.generator.model}",
    }
    if pair.negatives:
        row["negatives"] = [content.to_json(name_media) for content in pair.negatives]
    return row | ({"language": given.language} if given.language else {})


def _has_rows(pairs: Path) -> bool:
    return pairs.is_file() and pairs.stat().st_size > 0


def _write(output: Path, result: Result, report: dict[str, Any]) -> None:
    for name, rows in (("pairs", result.rows), ("failures", result.failures)):
        if name == "pairs" and report["pairs_of_earlier_call"]:
            continue
        write_text(output / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_json(output / "report.json", report)
    write_text(output / "report.md", statement.page(report))
