"""Who answers: an endpoint that speaks OpenAI's chat completions, or a causal language model on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from commonspace.errors import ConfigError
from data_prep.synthesis.cache import Answer

_FORMS = ("schema", "object", "text")
_LIMIT_NAMES = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; a temperature of 0 takes the likeliest token. `limit_name` is what an endpoint calls the
    most tokens of an answer, which decides no answer.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int = 1
    limit_name: str = "max_tokens"

    def __post_init__(self) -> None:
        if self.limit_name not in _LIMIT_NAMES:
            raise ConfigError(f"sampling.limit_name: {self.limit_name!r} is none of {', '.join(_LIMIT_NAMES)}")
        if not (self.temperature >= 0 and 0 < self.top_p <= 1 and self.max_tokens >= 1):
            raise ConfigError(f"sampling: {asdict(self)} has a temperature below 0, top_p outside (0, 1] or no tokens")

    def decisive(self) -> dict[str, Any]:
        """What decides an answer."""
        return {name: value for name, value in asdict(self).items() if name != "limit_name"}

    def fields(self) -> dict[str, Any]:
        """As an endpoint takes them."""
        fields = self.decisive()
        return {self.limit_name: fields.pop("max_tokens"), **fields}


@dataclass(frozen=True)
class Request:
    """One question: chat messages in OpenAI's form, and the JSON schema of the answer."""

    messages: tuple[Mapping[str, Any], ...]
    schema: Mapping[str, Any]
    sampling: Sampling


@dataclass(frozen=True)
class Failure:
    """No answer, and why; `endpoint` where the endpoint is at fault rather than the question, `refused` the status of
    one that takes no such request.
    """

    reason: str
    endpoint: bool = False
    refused: int | None = None


class Client(Protocol):
    """A back end. `at_once` requests are on their way together; `identity` is what decides answers beside a request."""

    at_once: int
    identity: Mapping[str, Any]

    def generate(
        self,
        requests: Sequence[Request],
        may_start: Callable[[], bool],
        done: Callable[[int, Answer], None],
    ) -> dict[int, Failure]:
        """Answer requests. `done` takes each answer with its request's place as it comes, from any thread; a request
        that `may_start` refuses is left out. Returns those that failed, by place.

        Raises:
            ConfigError: no request of this configuration can be answered.
        """
        ...


@dataclass(frozen=True)
class ClientOptions:
    """The `generator` of the config: see configs/data_synthesise.yaml."""

    backend: str
    model: str
    base_url: str | None = None
    key_variable: str | None = None
    answers: str | None = None
    at_once: int = 8
    retries: int = 6
    timeout: float = 120.0


def make_client(options: ClientOptions) -> Client:
    """The back end that the options name.

    Raises:
        ConfigError: there is no such one, an option has no effect on it, or its package is missing.
    """
    if options.at_once < 1 or options.retries < 0 or options.timeout <= 0:
        raise ConfigError("generator: at_once is at least 1, retries at least 0 and timeout more than 0")
    if options.answers not in (None, *_FORMS):
        raise ConfigError(f"generator.answers: {options.answers!r} is none of {', '.join(_FORMS)}")
    if options.backend == "openai":
        return EndpointClient(options)
    if options.backend == "local":
        given = [name for name in ("base_url", "key_variable", "answers") if getattr(options, name) is not None]
        if given:
            raise ConfigError(f"generator.{given[0]}: has no effect with backend=local; leave it out")
        return LocalClient(options)
    raise ConfigError(f"generator.backend: {options.backend!r} is none of openai, local")


class EndpointClient:
    """Requests side by side through the `openai` package, which repeats what is refused for now (429, 5xx, timeouts)
    with growing waits, or those that the endpoint asks for.
    """

    def __init__(self, options: ClientOptions) -> None:
        try:
            import openai
        except ImportError as error:
            raise ConfigError(f"generator: {error}; pip install 'commonspace[synthesis]'") from error
        if options.base_url is None:
            raise ConfigError(
                "generator.base_url: needs the endpoint, as https://api.openai.com/v1 or http://HOST:8000/v1"
            )
        key = None if options.key_variable is None else os.environ.get(options.key_variable)
        if options.key_variable is not None and not key:
            raise ConfigError(
                f"generator.key_variable: the environment has no {options.key_variable}; set it to the key"
            )
        self.at_once, self.form = options.at_once, options.answers or "schema"
        self.identity = {"backend": "openai", "model": options.model, "answers": self.form}
        self._errors = openai
        for name in ("httpx", "httpx2", "openai"):  # a line a request would bury the progress bar
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = openai.OpenAI(
            api_key=key or "none", base_url=options.base_url, max_retries=options.retries, timeout=options.timeout
        )

    def generate(
        self, requests: Sequence[Request], may_start: Callable[[], bool], done: Callable[[int, Answer], None]
    ) -> dict[int, Failure]:
        failures: dict[int, Failure] = {}

        def ask(place: int) -> None:
            if may_start():
                found = self._ask(requests[place])
                if isinstance(found, Failure):
                    failures[place] = found
                else:
                    done(place, found)

        with ThreadPoolExecutor(self.at_once) as pool:
            waiting = [pool.submit(ask, place) for place in range(len(requests))]
            try:
                for one in waiting:
                    one.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return failures

    def _ask(self, request: Request) -> Answer | Failure:
        errors, form = self._errors, self._form(request.schema)
        try:
            reply = self._client.chat.completions.create(
                model=self.identity["model"], messages=list(request.messages), **request.sampling.fields(), **form
            )
        except (errors.AuthenticationError, errors.PermissionDeniedError, errors.NotFoundError) as error:
            raise ConfigError(
                f"generator: {self._client.base_url} refuses model {self.identity['model']!r}: {error}; check "
                "generator.model, base_url and key_variable"
            ) from error
        except errors.APIStatusError as error:
            passing = error.status_code in (408, 409, 429) or error.status_code >= 500
            reason = f"{error.status_code}: {error.message[:300]}"
            return Failure(reason, passing, None if passing else error.status_code)
        except errors.APIError as error:  # not reached, timed out, or no JSON
            return Failure(f"{type(error).__name__}: {error}"[:300], endpoint=True)
        if not reply.choices or not reply.choices[0].message.content:
            refusal = reply.choices[0].message.refusal if reply.choices else None
            return Failure(f"no text in the answer ({refusal or 'no reason given'})"[:300])
        usage, choice = reply.usage, reply.choices[0]
        counts = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
        # half of a surrogate pair, which no cache can hold, as JSON writes it: it is found where the JSON is read
        text = choice.message.content.encode("utf-8", "backslashreplace").decode()
        return Answer(text, *counts, choice.finish_reason or "stop")

    def _form(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if self.form == "text":
            return {}
        if self.form == "object":
            return {"response_format": {"type": "json_object"}}
        named = {"name": "answer", "schema": dict(schema), "strict": False}
        return {"response_format": {"type": "json_schema", "json_schema": named}}


class LocalClient:
    """A causal language model of transformers, from a folder or the hub, in batches on the GPU where there is one.

    Weights are read from safetensors alone, and no code of a folder is run. It takes no images.
    """

    def __init__(self, options: ClientOptions) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.at_once = options.at_once
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
            self._model = AutoModelForCausalLM.from_pretrained(options.model, use_safetensors=True, dtype="auto")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"generator.model: {options.model} cannot be loaded as a causal language model ({str(error)[:300]}); "
                "give a folder or a name of the hub"
            ) from error
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        files = sorted(Path(options.model).glob("*.safetensors"))  # none where the name is the hub's
        state = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        self.identity = {"backend": "local", "model": options.model, "files": state}

    def generate(
        self, requests: Sequence[Request], may_start: Callable[[], bool], done: Callable[[int, Answer], None]
    ) -> dict[int, Failure]:
        for request in requests:
            if any(not isinstance(message["content"], str) for message in request.messages):
                raise ConfigError(
                    "generator.backend: a local causal language model takes no images; serve a model that does behind "
                    "an OpenAI-compatible endpoint and give its base_url with backend=openai"
                )
        for start in range(0, len(requests), self.at_once):
            places = [place for place in range(start, min(start + self.at_once, len(requests))) if may_start()]
            if places:
                for place, answer in zip(places, self._batch([requests[place] for place in places]), strict=True):
                    done(place, answer)
        return {}

    def _batch(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers of one padded batch, whose requests have one sampling."""
        import torch

        sampling = requests[0].sampling
        inputs = self._tokenizer(
            [self._prompt(request.messages) for request in requests],
            padding=True,
            return_tensors="pt",
            add_special_tokens=self._tokenizer.chat_template is None,  # a chat template writes its own
        ).to(self._model.device)
        drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        torch.manual_seed(sampling.seed)
        with torch.inference_mode():
            ids_BL = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=sampling.max_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
                **(drawn if sampling.temperature else {"do_sample": False}),
            )[:, inputs["input_ids"].shape[1] :]
        counts = inputs["attention_mask"].sum(1).tolist()
        return [self._answer(ids.tolist(), count, sampling) for ids, count in zip(ids_BL, counts, strict=True)]

    def _answer(self, ids: list[int], count: int, sampling: Sampling) -> Answer:
        ends = self._model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        end = next((place for place, token in enumerate(ids) if token in ends), None)
        used = ids if end is None else ids[: end + 1]
        finish = "length" if end is None and len(ids) >= sampling.max_tokens else "stop"
        return Answer(self._tokenizer.decode(used, skip_special_tokens=True), count, len(used), finish)

    def _prompt(self, messages: Sequence[Mapping[str, Any]]) -> str:
        if self._tokenizer.chat_template is None:  # a base model: it goes on with the text
            return "\n\n".join(message["content"] for message in messages) + "\n\n"
        return self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
