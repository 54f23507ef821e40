"""A compact model of the real classes, small and random: what tests of models and stages run."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, WhisperConfig

from commonspace import Audio, Content, Document, Image, Video
from commonspace.models.backbones.compact import CompactBackbone
from commonspace.models.embedder import Embedder
from commonspace.models.towers.audio import AudioTower
from commonspace.models.towers.vision import VisionConfig, VisionTower
from commonspace.processing.preprocessing import Preprocessing
from commonspace.processing.processor import Processor

WORDS = "a red fox in the snow runs over barks blue bird query text title none task search result before after".split()


def tiny_tokenizer() -> Tokenizer:
    """Whole words and single letters between <s> and </s>."""
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS, ":", "|", "."])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def tiny_embedder(
    *, seed: int = 0, towers: tuple[str, ...] = ("image", "audio"), pooling: str = "mean", text_hidden: int = 0
) -> Embedder:
    """Width 32, two layers, 32 pixels a side; all parts random."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    text = BertModel(
        BertConfig(
            vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=128, initializer_range=0.2,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )  # fmt: skip
    whisper = WhisperConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, num_mel_bins=80,
        decoder_layers=1, decoder_attention_heads=2, vocab_size=8, pad_token_id=0, bos_token_id=0, eos_token_id=0,
        decoder_start_token_id=0, suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    vision = VisionConfig("test_efficientnet", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    backbone = CompactBackbone(
        text,
        VisionTower(vision) if "image" in towers else None,
        AudioTower(whisper) if "audio" in towers else None,
        image_tokens=4,
    )
    preprocessing = Preprocessing(
        image_size=64, image_grid=2, document_grid=2, frame_grid=1, max_tokens=128, max_text_tokens=64
    )
    return Embedder(
        backbone, Processor(preprocessing, tokenizer), embedding_size=32, matryoshka_sizes=(8, 16, 32), pooling=pooling,
        text_hidden=text_hidden,
    ).eval()  # fmt: skip


def picture(seed: int = 0, size: int = 40) -> Image:
    """A random image."""
    return Image(np.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=np.uint8), name=f"picture {seed}")


def sound(seconds: float = 0.5, pitch: float = 440.0) -> Audio:
    """A tone."""
    times = np.arange(int(16000 * seconds)) / 16000
    return Audio(np.sin(2 * np.pi * pitch * times).astype(np.float32), rate=16000, name=f"tone {pitch}")


def clip(seed: int = 0, frames: int = 3) -> Video:
    """A few random frames, no soundtrack."""
    values = np.random.default_rng(seed).integers(0, 255, (frames, 40, 40, 3), dtype=np.uint8)
    return Video(values, fps=4.0, name=f"clip {seed}")


def contents() -> list[Content]:
    """One content of every kind and two mixtures."""
    return [
        Content("a red fox"),
        Content("a blue bird in the snow runs over the fox"),
        Content(picture(1)),
        Content(sound()),
        Content(clip(2)),
        Content(Document("before", picture(3), "after")),
        Content("before", picture(4), sound(0.3, 600.0), "after"),
    ]
