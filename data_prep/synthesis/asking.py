"""Questions to answers that fit their schema: from the cache, else from a client, asked again where they do not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from commonspace.errors import ConfigError
from data_prep.synthesis.bill import Bill, Price
from data_prep.synthesis.cache import Answer, AnswerCache
from data_prep.synthesis.clients import Client, Failure, Request
from data_prep.synthesis.template import parse_json

UNASKED = Failure("not asked: the budget is spent")


@dataclass
class Asker:
    """Asks for one purpose ("write", "rate"): `attempts` is how often a question is asked until its answer fits."""

    purpose: str
    client: Client
    cache: AnswerCache
    bill: Bill
    price: Price
    attempts: int

    def __post_init__(self) -> None:
        self.bill.open(self.purpose, self.price)
        self._charged: set[str] = set()

    def ask(self, requests: Sequence[Request]) -> list[dict[str, Any] | Failure]:
        """The parsed answer of each request, or why there is none.

        Where none of several requests is answered, `bill.unanswered` says so.

        Raises:
            ConfigError: the client can answer no request of this configuration, or refuses all of several.
        """
        found: list[dict[str, Any] | Failure] = [UNASKED] * len(requests)
        open_requests = dict(enumerate(requests))
        for attempt in range(self.attempts):
            answers = self._answers(list(open_requests.values()))
            if attempt == 0:
                self._check_refusals(answers)
            again: dict[int, Request] = {}
            for (place, request), answer in zip(open_requests.items(), answers, strict=True):
                if isinstance(answer, Failure):
                    # a repetition that the budget did not allow leaves the answer that did not fit
                    found[place] = answer if attempt == 0 or answer is not UNASKED else found[place]
                    continue
                try:
                    found[place] = parse_json(answer.text, request.schema)
                except ValueError as error:
                    cut = f" (cut at max_tokens={request.sampling.max_tokens})" if answer.finish == "length" else ""
                    found[place] = Failure(
                        f"answer does not fit its schema{cut}: {error}; it was {answer.text[:200]!r}"
                    )
                    again[place] = _repeated(request, answer.text, str(error), attempt)
            open_requests = again
            if not open_requests:
                break
        return found

    def _check_refusals(self, answers: Sequence[Answer | Failure]) -> None:
        """Where each of several requests is refused in the same way, the next ones would be too."""
        asked = [one for one in answers if one is not UNASKED]
        refused = {one.refused if isinstance(one, Failure) else None for one in asked}
        if len(asked) > 1 and len(refused) == 1 and None not in refused:
            raise ConfigError(
                f"{self.purpose}: all of {len(asked)} requests were refused: {asked[0].reason}; check generator.model, "
                "generator.answers and sampling (limit_name=max_completion_tokens where max_tokens is not supported)"
            )

    def _answers(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        """Each request's answer; two equal ones are one question."""
        keys = [self.key(request) for request in requests]
        found: dict[str, Answer | Failure] = {}
        wanted: dict[str, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            if key in found or key in wanted:
                continue
            cached = self.cache.get(key)
            if key in self._charged and cached:
                found[key] = cached
            elif not self.bill.affordable() or not self.bill.reserve():
                found[key] = UNASKED
            elif cached:
                found[key] = cached
                self._charge(key, cached, new=False)
            else:
                wanted[key] = request
        found |= self._generate(wanted)
        return [found[key] for key in keys]

    def _generate(self, wanted: Mapping[str, Request]) -> dict[str, Answer | Failure]:
        names = list(wanted)
        found: dict[str, Answer | Failure] = dict.fromkeys(names, UNASKED)

        def done(place: int, answer: Answer) -> None:
            self.cache.put(names[place], answer)
            found[names[place]] = answer
            self._charge(names[place], answer, new=True)

        failures = self.client.generate(list(wanted.values()), self.bill.affordable, done)
        for place, failure in failures.items():
            found[names[place]] = failure
            self.bill.fail(self.purpose)
        if len(names) > 1 and len(failures) == len(names) and all(one.endpoint for one in failures.values()):
            self.bill.unanswered = f"{self.purpose}: none of {len(names)} requests was answered: {failures[0].reason}"
        return found

    def _charge(self, key: str, answer: Answer, *, new: bool) -> None:
        self._charged.add(key)
        self.bill.charge(self.purpose, answer, new=new)

    def key(self, request: Request) -> str:
        """Hash of all that decides an answer: model, messages (template and input), schema and sampling."""
        state = [self.client.identity, request.messages, request.schema, request.sampling.decisive()]
        return hashlib.sha256(json.dumps(state, sort_keys=True, default=dict).encode()).hexdigest()


def _repeated(request: Request, text: str, problem: str, attempt: int) -> Request:
    """The question with what was wrong with its answer; another seed, as a model may answer the same again."""
    more = (
        {"role": "assistant", "content": text},
        {"role": "user", "content": f"That does not fit: {problem}. Answer with the JSON alone."},
    )
    sampling = replace(request.sampling, seed=request.sampling.seed + attempt + 1)
    return replace(request, messages=(*request.messages, *more), sampling=sampling)
