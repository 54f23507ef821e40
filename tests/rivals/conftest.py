"""A tier of pictures and texts, and pretrained weights as packages give them, all small and random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from commonspace.content import Content, Document, Image
from commonspace.rivals.tries import Given
from tests.evaluation.made import record, write
from tests.media import picture_bytes
from tests.models.pretrained import write_packaged_towers
from tests.models.tiny import WORDS, tiny_tokenizer


def write_text(folder: Path) -> Path:
    """A BERT as multilingual-e5-small has it: <pad> is 1, and tokenizer.json stands alone."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        **sizes,
        max_position_embeddings=64,
        initializer_range=0.2,
        pad_token_id=1,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for each pretrained part, under its packaged name."""
    root = write_packaged_towers(tmp_path_factory.mktemp("weights"))
    write_text(root / "multilingual-e5-small")
    return root


@pytest.fixture(scope="session")
def tier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captions of pictures in two languages, summaries, and documents with a picture."""
    root, random = tmp_path_factory.mktemp("data") / "made", np.random.default_rng(0)
    for split in ("train", "dev", "heldout"):
        captions, summaries, documents = [], [], []
        for number in range(12):
            words = " ".join(random.choice(WORDS, 4, replace=False))
            drawn = Image(picture_bytes(random.integers(0, 255, (24, 24, 3), dtype=np.uint8)), name="drawn.png")
            name = f"{split} {number}"
            texts = [("en", Content(words)), ("fr", Content(f"the {words}"))]
            captions.append(record(f"c{number}", "image_caption", name, Content(drawn), *texts))
            summaries.append(
                record(f"s{number}", "summary", name, Content(words[:9]), ("en", Content(f"{words} {words}")))
            )
            page = Content(Document(words, drawn))
            documents.append(record(f"d{number}", "document", name, Content(words[:9]), ("en", page)))
        for task, records in (("image_caption", captions), ("summary", summaries), ("document", documents)):
            write(root, task, records, split)
    return root


@pytest.fixture
def given(tier: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    """What a peer is given, its weights by name."""
    monkeypatch.setattr(Given, "pretrained", lambda self, name: weights / name)
    return Given(tier, tier, "package", seed=1)
