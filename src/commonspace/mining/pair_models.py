"""Models of Hugging Face's classes that read a query and a target at once, from a folder: safetensors, no code of it.

A cross-encoder is any AutoModelForSequenceClassification. A generative model is any AutoModelForCausalLM, or, where the
folder's class takes images, any AutoModelForImageTextToText (a VLM).
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import log_softmax
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from commonspace.content import Content
from commonspace.errors import ConfigError, ContentError, WeightsError
from commonspace.files import sha256_of
from commonspace.mining.rendering import Shown, texts_alone, words_and_pictures
from commonspace.mining.shortening import shortened, tokens_of
from commonspace.models.backbones.pretrained import read_config, read_model

GRADE = (
    "Query: {query}\nDocument: {target}\nHow well does the document answer the query? Answer with one of: {answers}."
)
LIKELIHOOD = "Document: {target}\nWrite the query that this document answers."
_PLACES = ("{query}", "{target}")
WINDOW = 4  # batches whose inputs are held at once
Pairs = Sequence[tuple[Content, Content]]


def weights_hash(folder: Path) -> str:
    """Of every file that decides what a folder's model says. Raises WeightsError where it holds no safetensors."""
    state = hashlib.blake2b(digest_size=16)
    if not list(folder.glob("*.safetensors")):
        raise WeightsError(f"{folder}: holds no .safetensors; a teacher is a folder that save_pretrained wrote")
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".jinja", ".txt")):
        state.update(path.name.encode() + bytes.fromhex(sha256_of(path)))
    return state.hexdigest()


class CrossEncoder:
    """Relevance in 0..1 of pairs of texts: sigmoid of one logit, or the expected label of several over the highest.

    Two labels are thus "no" and "yes", four the grades 0 to 3. A pair is cut to `max_tokens`, the longer side first.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", batch: int = 16, max_tokens: int = 512) -> None:
        config = read_config(AutoConfig, folder)
        self.model = read_model(AutoModelForSequenceClassification, folder, config, None).to(device).eval()
        self.tokenizer = _reads(AutoTokenizer, folder)
        self.batch, self.max_tokens = batch, max_tokens

    @torch.inference_mode()
    def __call__(self, pairs: Pairs) -> list[float]:
        """Scores of pairs; ContentError where one holds more than text."""
        texts = [(texts_alone(query), texts_alone(target)) for query, target in pairs]
        found: list[float] = []
        for start in range(0, len(texts), self.batch):
            queries, targets = zip(*texts[start : start + self.batch], strict=True)
            inputs = self.tokenizer(
                list(queries), list(targets), padding=True, truncation=True, max_length=self.max_tokens,
                return_tensors="pt",
            )  # fmt: skip
            found += graded(self.model(**inputs.to(self.model.device)).logits.float()).tolist()
        return found


def graded(logits_BC: torch.Tensor) -> torch.Tensor:
    """Relevance in 0..1 [B] by the logits of C labels, the worst first; of one label its sigmoid."""
    labels = logits_BC.shape[1]
    if labels == 1:
        return logits_BC[:, 0].sigmoid()
    return (logits_BC.softmax(1) * torch.arange(labels, device=logits_BC.device)).sum(1) / (labels - 1)


class Generative:
    """What a language model, or one that sees, thinks of a pair, by one of two signals (Gecko fuses both).

    grade       the expected answer among `answers`, the worst first, in 0..1, by the logits of their first tokens
    likelihood  mean log-probability of the query's tokens after the target: of queries of text alone
    `prompt` holds {target} and, for a grade, {query}, and may hold {answers}. Images, frames of clips and pages of PDFs
    stand where the contents have them. A pair beyond `max_tokens`, or the model's positions, loses the end of the
    target's texts, and of the query's where these alone take more than half of the room; the prompt's words and
    pictures stay whole.
    """

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "cpu",
        batch: int = 16,
        signal: str = "grade",
        prompt: str | None = None,
        answers: Sequence[str] = ("no", "yes"),
        precision: str = "float32",
        max_tokens: int = 8192,
    ) -> None:
        config = read_config(AutoConfig, folder)
        self.sees = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        kind = AutoModelForImageTextToText if self.sees else AutoModelForCausalLM
        self.model = read_model(kind, folder, config, None).to(device, getattr(torch, precision)).eval()
        self.processor = _reads(AutoProcessor if self.sees else AutoTokenizer, folder)
        self.tokenizer = self.processor.tokenizer if self.sees else self.processor
        self.chats = bool(getattr(self.processor, "chat_template", None))
        self._keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        positions = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None) or 0
        self.max_tokens = min(max_tokens, positions) if positions > 0 else max_tokens
        self.batch, self.signal, self.answers = batch, signal, list(answers)
        self.prompt = prompt or (GRADE if signal == "grade" else LIKELIHOOD)
        for needed in ("{target}", *(["{query}"] if signal == "grade" else [])):
            if needed not in self.prompt:
                raise ConfigError(f"teachers: the prompt of signal={signal} must hold {needed}: {self.prompt!r}")
        self.answer_ids = [self._ids(answer)[0] for answer in self.answers]
        if len(set(self.answer_ids)) < len(self.answer_ids):
            raise ConfigError(f"{folder}: answers {self.answers} begin with the same token; choose other words")
        self.prompt = self.prompt.replace("{answers}", ", ".join(self.answers))
        bare = tokens_of(self._text(_filled(self.prompt, {"query": [], "target": []})), self.tokenizer)
        if bare + len(_PLACES) > self.max_tokens:
            raise ConfigError(
                f"teachers: {folder} reads {self.max_tokens} tokens, which its prompt's {bare} leave no room in; "
                "raise max_tokens, or shorten the prompt"
            )

    @torch.inference_mode()
    def __call__(self, pairs: Pairs) -> list[float]:
        """Scores of pairs; ContentError for a sound, for pictures a model of texts cannot see, and (likelihood) for
        queries beyond text, and for a pair that max_tokens has no room for.
        """
        found: list[float] = []
        for start in range(0, len(pairs), WINDOW * self.batch):
            found += self._window(pairs[start : start + WINDOW * self.batch])
        return found

    def _window(self, pairs: Pairs) -> list[float]:
        """Scores of pairs whose inputs are held together, so that those alike in length share a batch."""
        made = [self._inputs(query, target) for query, target in pairs]
        found = [0.0] * len(pairs)
        for places in _alike([inputs for inputs, _ in made], self.batch):
            inputs = _padded([made[place][0] for place in places], self.tokenizer.pad_token_id or 0)
            decisive = [_decisive(_length(made[place][0]), made[place][1]) for place in places]
            kept = sorted(set().union(*decisive))
            logits_BKV = self._logits(inputs, kept)
            for row, (place, steps) in enumerate(zip(places, decisive, strict=True)):
                first = kept.index(steps[0])
                found[place] = self._score(logits_BKV[row, first : first + len(steps)].float(), made[place][1])
        return found

    def _logits(self, inputs: dict[str, torch.Tensor], kept: list[int]) -> torch.Tensor:
        """Those of K positions, the same in each row [B, K, V]: of all they would be the most that is held."""
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        floats = {name: value.to(self.model.dtype) for name, value in inputs.items() if value.is_floating_point()}
        kept_K = torch.tensor(kept, device=self.model.device)
        if self._keeps:
            return self.model(**inputs | floats, logits_to_keep=kept_K).logits
        return self.model(**inputs | floats).logits[:, kept_K]

    def _score(self, logits_TV: torch.Tensor, query_ids: list[int]) -> float:
        if self.signal == "grade":
            return float(graded(logits_TV[:, self.answer_ids])[0])
        ids = torch.tensor(query_ids, device=logits_TV.device)
        return float(log_softmax(logits_TV, dim=1).gather(1, ids[:, None]).mean())

    def _inputs(self, query: Content, target: Content) -> tuple[dict[str, torch.Tensor], list[int]]:
        """The prompt of a pair, and the tokens of the query that stand at its end, where it is their likelihood."""
        sides = {"target": words_and_pictures(target)}
        sides["query"] = [texts_alone(query)] if self.signal == "likelihood" else words_and_pictures(query)
        while True:
            inputs, query_ids = self._read(sides), []
            if self.signal == "likelihood":
                query_ids = self._ids("".join(sides["query"]))
                inputs = _extended(inputs, query_ids)
            if (over := _length(inputs) - self.max_tokens) <= 0:
                return inputs, query_ids
            sides = shortened(sides, over, self.max_tokens, self.tokenizer)

    def _read(self, sides: dict[str, list[Shown]]) -> dict[str, torch.Tensor]:
        """The prompt with what stands for a query and a target, as tensors of one row."""
        pieces = _filled(self.prompt, sides)
        pictures = [piece for piece in pieces if not isinstance(piece, str)]
        if pictures and not self.sees:
            raise ContentError("this teacher reads texts and sees no pictures; mine tasks of text with it")
        text = self._text(pieces)
        options = {"return_tensors": "pt"} | ({"add_special_tokens": False} if self._marked(text) else {})
        if self.sees:
            return dict(self.processor(text=[text], images=[pictures] if pictures else None, **options))
        return dict(self.tokenizer(text, **options))

    def _marked(self, text: str) -> bool:
        """Whether a chat template wrote the special tokens. Of one for a processor transformers takes that to be so
        where the text begins with BOS: some, as Llava's, leave it to the tokenizer.
        """
        begin = self.tokenizer.bos_token
        return self.chats and (not self.sees or (begin is not None and text.startswith(begin)))

    def _text(self, pieces: list[Shown]) -> str:
        """As the model's chat has it; plain text where it has none."""
        parts = [{"type": "text", "text": piece} if isinstance(piece, str) else {"type": "image"} for piece in pieces]
        if self.chats:
            content = parts if self.sees else "".join(part["text"] for part in parts)
            message = [{"role": "user", "content": content}]
            return self.processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        mark = getattr(self.processor, "image_token", "<image>")
        return "".join(part.get("text", mark) for part in parts)

    def _ids(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text, add_special_tokens=False)
        if not ids:
            raise ContentError(f"{text!r} has no tokens for this teacher")
        return ids


def _length(inputs: dict[str, torch.Tensor]) -> int:
    return inputs["input_ids"].shape[1]


def _decisive(length: int, query_ids: Sequence[int]) -> range:
    """Positions whose logits are read: the last, or those before each token of a query that stands at the end."""
    return range(length - 1 - len(query_ids), length - 1) if query_ids else range(length - 1, length)


def _filled(prompt: str, fills: dict[str, list[Shown]]) -> list[Shown]:
    """The prompt in pieces, {query} and {target} replaced by what they stand for; neighbouring texts joined.

    What a content says is not read as a prompt: braces of its own stay as they are.
    """
    pieces: list[Shown] = [""]
    for text in re.split(r"({query}|{target})", prompt):
        for piece in fills[text[1:-1]] if text in _PLACES else [text]:
            if isinstance(piece, str) and isinstance(pieces[-1], str):
                pieces[-1] += piece
            else:
                pieces.append(piece)
    return [piece for piece in pieces if piece != ""]


def _extended(inputs: dict[str, torch.Tensor], ids: list[int]) -> dict[str, torch.Tensor]:
    """The inputs of one text with more tokens at its end; what else has a number a token gets zeros there."""
    shape = inputs["input_ids"].shape
    more = torch.tensor([ids])
    fills = {"input_ids": more, "attention_mask": torch.ones_like(more)}
    return {
        name: torch.cat([value, fills.get(name, torch.zeros_like(more)).to(value.dtype)], dim=1)
        if value.shape == shape
        else value
        for name, value in inputs.items()
    }


def _alike(made: Sequence[dict[str, torch.Tensor]], batch: int) -> Iterator[list[int]]:
    """Places in batches of inputs that differ in length alone, the shortest first."""
    groups: dict[Any, list[int]] = {}
    for place, inputs in enumerate(made):
        shape = inputs["input_ids"].shape
        key = tuple((name, tuple(v.shape)) if v.shape != shape else (name,) for name, v in sorted(inputs.items()))
        groups.setdefault(key, []).append(place)
    for places in groups.values():
        places.sort(key=lambda place: _length(made[place]))
        yield from (places[start : start + batch] for start in range(0, len(places), batch))


def _padded(rows: Sequence[dict[str, torch.Tensor]], pad: int) -> dict[str, torch.Tensor]:
    """Inputs of several texts as one batch, padded at the end: a causal model does not see what comes after."""
    longest = max(map(_length, rows))

    def whole(name: str, row: dict[str, torch.Tensor]) -> torch.Tensor:
        value = row[name]
        if value.shape != row["input_ids"].shape:
            return value
        room = (0, longest - value.shape[1])
        return torch.nn.functional.pad(value, room, value=pad if name == "input_ids" else 0)

    return {name: torch.cat([whole(name, row) for row in rows]) for name in rows[0]}


def _reads(kind: Any, folder: Path) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise WeightsError(f"{folder}: has no {kind.__name__.removeprefix('Auto').lower()} ({error})") from error
