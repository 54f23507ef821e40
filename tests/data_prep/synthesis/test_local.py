"""The back end on this machine: a real, tiny Llama, whose weights make each token lead to the next of an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from commonspace.errors import ConfigError
from data_prep.cli import synthesise
from data_prep.synthesis.cache import Answer
from data_prep.synthesis.clients import ClientOptions, Request, Sampling, make_client
from tests.data_prep.synthesis.test_run import NAMES, options, rows_of, write_pairs

END = '["..."]}'  # how the question of the template `query` ends, and so what an answer follows
CHAIN = ['{"queries":', '["what', "is", 'it"]}', "</s>"]
WIDTH = 32


def write_model(folder: Path, start: str = END, template: str | None = None) -> Path:
    """A Llama that answers what `CHAIN` says after `start`, and an end after any other token."""
    words = ["<unk>", "<pad>", *CHAIN, start, "is_it"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>", chat_template=template
    )
    wrapped.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=WIDTH,
        hidden_size=WIDTH,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=vocabulary["<pad>"],
        eos_token_id=vocabulary["</s>"],
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(WIDTH))
        for layer in (model.model.layers[0].self_attn.o_proj, model.model.layers[0].mlp.down_proj):
            layer.weight.zero_()  # only what the last token leads to counts
        model.lm_head.weight.zero_()
        model.lm_head.weight[vocabulary["</s>"]] = 1
        for one, following in zip([start, *CHAIN], CHAIN, strict=False):
            model.lm_head.weight[vocabulary[following], vocabulary[one]] = 10
    model.save_pretrained(folder)
    return folder


def local(folder: Path, tmp_path: Path, **more) -> dict:
    return options(
        None, tmp_path, **{"generator": {"backend": "local", "model": str(folder), "base_url": None}, **more}
    )


def test_a_local_model_writes_rows_in_batches_and_is_asked_once(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    folder = write_model(tmp_path / "model")
    report = synthesise(**local(folder, tmp_path, limit=5))
    rows = rows_of(tmp_path)
    assert [row["query"] for row in rows] == [["what is it"]] * 5 and {row["concept"] for row in rows} <= set(NAMES)
    write = report["requests"]["write"]
    assert (write["new"], write["output_tokens"], write["failed"]) == (5, 5 * len(CHAIN), 0)
    again = synthesise(**local(folder, tmp_path, limit=5))
    assert again["requests"]["write"]["new"] == 0 and rows_of(tmp_path) == rows
    write_model(folder)  # other weights under the same name are another model
    assert synthesise(**local(folder, tmp_path, limit=5))["requests"]["write"]["new"] == 5


def test_a_batch_answers_as_each_alone_and_counts_its_own_tokens(tmp_path: Path) -> None:
    template = "{% for message in messages %}{{ message['content'] }} {% endfor %}START"
    client = make_client(ClientOptions("local", str(write_model(tmp_path, "START", template)), at_once=2))
    requests = [
        Request(({"role": "user", "content": text},), {}, Sampling(0.0)) for text in ("one", "one two three", "it")
    ]
    answers: dict[int, Answer] = {}
    assert client.generate(requests, lambda: True, answers.__setitem__) == {}
    alone: dict[int, Answer] = {}
    for place, request in enumerate(requests):
        client.generate([request], lambda: True, lambda _, answer, place=place: alone.__setitem__(place, answer))
    assert answers == alone and [answers[place].input_tokens for place in range(3)] == [2, 4, 2]
    assert json.loads(answers[0].text) == {"queries": ["what is it"]} and answers[0].finish == "stop"
    short = [Request(requests[0].messages, {}, Sampling(0.7, 0.9, 2))]
    client.generate(short, lambda: True, answers.__setitem__)
    assert answers[0] == Answer('{"queries": ["what', 2, 2, "length")
    assert client.generate(requests, lambda: False, lambda *_: pytest.fail("asked")) == {}


def test_what_does_not_fit_is_listed_with_what_was_said(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    folder = write_model(tmp_path / "model", "elsewhere")
    report = synthesise(**local(folder, tmp_path, limit=2, sampling={"max_tokens": 3}))
    assert report["rows"]["kept"] == 0 and report["failures"] == 2 and report["requests"]["write"]["answers"] == 4
    assert all("it holds no JSON object" in row["reason"] for row in rows_of(tmp_path, name="failures"))
    cut = write_model(tmp_path / "cut")
    synthesise(**local(cut, tmp_path, limit=2, attempts=1, sampling={"max_tokens": 2}))
    assert all("cut at max_tokens=2" in row["reason"] for row in rows_of(tmp_path, name="failures"))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="generator.model: .*empty cannot be loaded"):
        synthesise(**local(tmp_path / "empty", tmp_path))


def test_pictures_are_refused(tmp_path: Path) -> None:
    client = make_client(ClientOptions("local", str(write_model(tmp_path))))
    shown = ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},)
    with pytest.raises(ConfigError, match="takes no images; serve a model"):
        client.generate([Request(shown, {}, Sampling())], lambda: True, lambda *_: None)
