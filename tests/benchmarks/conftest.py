"""Weights and data that make every benchmark a matter of seconds: small random parts, a few pairs of each kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import BertConfig, BertModel

from benchmarks.subject import AUDIO, IMAGE, TEXT
from commonspace import Content
from tests.evaluation.made import record, write
from tests.models.pretrained import write_packaged_towers
from tests.models.tiny import tiny_tokenizer
from tests.stages.training import TEXTS, write_pairs


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of the compact model, random, as both this project and sentence-transformers read them."""
    root = tmp_path_factory.mktemp("weights")
    write_packaged_towers(root)
    described = json.loads((root / IMAGE / "config.json").read_text())
    described["num_classes"] = 1000
    described["pretrained_cfg"] |= {"input_size": [3, 224, 224], "interpolation": "bicubic"}
    (root / IMAGE / "config.json").write_text(json.dumps(described))
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=512, pad_token_id=1, initializer_range=0.2,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(root / TEXT)
    tokenizer.save(str(root / TEXT / "tokenizer.json"))
    Tokenizer(models.BPE({"<|endoftext|>": 0, "a": 1}, [])).save(str(root / AUDIO / "tokenizer.json"))
    return root


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with captions, titles, and paragraphs in two languages."""
    root = write_pairs(tmp_path_factory.mktemp("data"))
    pairs = [
        record(f"x{n}", "crosslingual", text, Content(text), ("fr", Content(f"le {text} the snow")))
        for n, text in enumerate(TEXTS[:48])
    ]
    write(root, "crosslingual", pairs, "train")
    return root
