"""The two sides of benchmarks/embed.py: this project's embedder, and sentence-transformers on the same weights.

sentence-transformers has no model of several of these parts, so its side is one model of its own for each modality,
made of its own modules: BERT with mean pooling, Whisper's encoder with mean pooling, the timm trunk with mean
pooling. It reads texts, JPEG bytes through Pillow, and samples at 16 kHz. A text costs both sides the same layers. Of
media its models end where the encoder does, and ours go on through connector, transformer and head: ours does more.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image as pil
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import PreTrainedTokenizerFast, WhisperFeatureExtractor

from benchmarks.subject import AUDIO, IMAGE, TEXT, compact_model
from commonspace import Audio, Content, Image
from commonspace.models.device import best_device

RATE = 16_000
Item = str | bytes | np.ndarray  # a text, an image file, samples


class Ours:
    """`Embedder.embed` with its own defaults: contents as they come, all modalities in one call."""

    batch_size = 0  # of the peer alone; batches here are by tokens

    def __init__(self, weights: Path) -> None:
        self.embedder = compact_model(weights)

    def __call__(self, items: Sequence[Item]) -> np.ndarray:
        return self.embedder.embed(map(content_of, items))


class Peer:
    """`SentenceTransformer.encode`, items of a kind in one call; models are loaded when their kind first comes."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self.batch_size = 32  # its default

    def __call__(self, items: Sequence[Item]) -> dict[str, np.ndarray]:
        by_kind = {kind: [item for item in items if isinstance(item, kind)] for kind in (str, bytes, np.ndarray)}
        reads = {
            str: lambda given: (self.text, list(given)),
            bytes: lambda given: (self.image, [pil.open(io.BytesIO(data)).convert("RGB") for data in given]),
            np.ndarray: lambda given: (self.audio, [{"array": array, "sampling_rate": RATE} for array in given]),
        }
        out = {}
        for kind, given in by_kind.items():
            if given:
                model, inputs = reads[kind](given)
                out[kind.__name__] = model.encode(
                    inputs, batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
                )
        return out

    @cached_property
    def text(self) -> SentenceTransformer:
        with tempfile.TemporaryDirectory() as scratch:
            folder = self._linked(TEXT, Path(scratch), "config.json", "model.safetensors")
            # Named, because the class that belongs to a BERT config makes another tokenizer of this tokenizer.json.
            PreTrainedTokenizerFast(
                tokenizer_file=str(self.weights / TEXT / "tokenizer.json"), pad_token="<pad>", model_max_length=512
            ).save_pretrained(folder)
            words = Transformer(str(folder), model_kwargs={"dtype": torch.float32, "add_pooling_layer": False})
        return self._whole(words, Pooling(words.get_embedding_dimension(), "mean"))

    @cached_property
    def image(self) -> SentenceTransformer:
        with tempfile.TemporaryDirectory() as scratch:
            folder = self._linked(IMAGE, Path(scratch), "model.safetensors")
            config = json.loads((self.weights / IMAGE / "config.json").read_text())
            config["pretrained_cfg"] |= {"crop_pct": 1.0}  # 224 pixels in, 224 out, as on our side
            (folder / "config.json").write_text(json.dumps(config))
            trunk = Transformer(str(folder), model_kwargs={"dtype": torch.float32})
        return self._whole(trunk, Pooling(trunk.model.timm_model.num_features, "mean"))

    @cached_property
    def audio(self) -> SentenceTransformer:
        with tempfile.TemporaryDirectory() as scratch:
            folder = self._linked(AUDIO, Path(scratch), "config.json", "tokenizer.json")
            whole = load_file(self.weights / AUDIO / "model.safetensors")
            # By the encoder's own names: it finds none of a whole Whisper's, and would start at random.
            own = {name.removeprefix("model.encoder."): t for name, t in whole.items() if ".encoder." in name}
            save_file(own, folder / "model.safetensors", {"format": "pt"})
            WhisperFeatureExtractor().save_pretrained(folder)
            encoder = Transformer(str(folder), model_kwargs={"dtype": torch.float32})
        return self._whole(encoder, Pooling(encoder.get_embedding_dimension(), "mean"))

    def _linked(self, name: str, folder: Path, *files: str) -> Path:
        for file in files:
            (folder / file).symlink_to((self.weights / name / file).resolve())
        return folder

    def _whole(self, *modules: torch.nn.Module) -> SentenceTransformer:
        return SentenceTransformer(modules=list(modules), device=best_device())


def content_of(item: Item) -> Content:
    """An item as our side takes it."""
    if isinstance(item, str):
        return Content(item)
    return Content(Image(item) if isinstance(item, bytes) else Audio(item, rate=RATE))


@torch.no_grad()
def check_same_weights(ours: Ours, peer: Peer, text: str) -> None:
    """Both sides must give the same numbers where they compute the same thing: a text's vector, and what the encoders
    give for an image that needs no scaling and a sound of Whisper's own 30 seconds.
    """
    draw = np.random.default_rng(1)
    image, sound = jpeg(224, 224, draw), draw.normal(0, 0.1, 30 * RATE).astype(np.float32)
    found = peer([text, image, sound])
    embedder = ours.embedder
    vision, audio = (embedder.backbone.towers()[name] for name in ("image", "audio"))
    pixels, mel = (embedder.processor(content_of(item)).pieces for item in (image, sound))
    (pixels,) = (piece.value for piece in pixels if piece.kind == "image")
    (mel,) = {id(piece.value): piece.value for piece in mel if piece.kind == "audio"}.values()
    expected = {
        "str": torch.from_numpy(ours([text])),
        "bytes": vision(pixels[None].to(embedder.device), 1)[:, 0],
        "ndarray": audio(mel[None].to(embedder.device)).mean(1),
    }
    for kind, vectors_1D in expected.items():
        unit_1D = torch.nn.functional.normalize(vectors_1D.cpu(), dim=-1)
        np.testing.assert_allclose(found[kind], unit_1D, atol=1e-4, err_msg=f"{kind}: not the same weights")


def jpeg(width: int, height: int, draw: np.random.Generator) -> bytes:
    """A picture of coloured blocks, which JPEG keeps about as it keeps a photograph."""
    blocks = draw.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    file = io.BytesIO()
    pil.fromarray(blocks.repeat(16, 0).repeat(16, 1)[:height, :width]).save(file, "JPEG", quality=90)
    return file.getvalue()
