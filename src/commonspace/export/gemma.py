"""EmbeddingGemma 2 with its own towers, in the modules that sentence-transformers has: no code of ours is needed.

transformers' model and processor, the mean over tokens, one linear layer (our head, its centring and scale folded in),
and unit length.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers  # loads a class when it is asked for
from tokenizers import Tokenizer

from commonspace.errors import ConfigError
from commonspace.models.backbones.embedding_gemma2_whole import EmbeddingGemma2WholeBackbone
from commonspace.models.embedder import Embedder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BUDGETS = (70, 140, 280, 560, 1120)  # tokens of a picture that transformers' image processor takes
# Parts of a message in their order. A system message is the prompt: it stands before text alone, as task prefixes do.
_TEMPLATE = """{%- set seen = namespace(media=false) -%}
{%- for message in messages -%}{%- if message['content'] is not string -%}{%- for part in message['content'] -%}
{%- if part['type'] != 'text' -%}{%- set seen.media = true -%}{%- endif -%}
{%- endfor -%}{%- endif -%}{%- endfor -%}
{%- for message in messages -%}{%- if message['role'] != 'system' or not seen.media -%}
{%- if message['content'] is string -%}{{- message['content'] -}}{%- else -%}{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}{{- part['text'] -}}
{%- elif part['type'] == 'image' -%}{{- 'IMAGE' -}}
{%- elif part['type'] == 'audio' -%}{{- 'AUDIO' -}}
{%- elif part['type'] == 'video' -%}{{- 'VIDEO' -}}{%- endif -%}
{%- endfor -%}{%- endif -%}{%- endif -%}{%- endfor -%}"""


def why_not_plain(embedder: Embedder) -> str:
    """What keeps a model from the library's own modules; "" where nothing does."""
    backbone, numbers = embedder.backbone, embedder.processor.preprocessing
    if not isinstance(backbone, EmbeddingGemma2WholeBackbone):
        return f"{backbone.name} has parts that sentence-transformers does not"
    if set(backbone.towers()) != {"image", "audio"}:
        return "a tower is left out"
    if embedder.pooling != "mean" or embedder.text_layer is not None:
        return "a text layer, or another pooling than the mean"
    if numbers.video_timestamps:
        return "time stamps before frames"
    budgets = {numbers.image_max_tokens, numbers.frame_max_tokens}
    return "" if budgets <= set(_BUDGETS) else f"budgets of pictures beside {', '.join(map(str, _BUDGETS))}"


def plain_modules(embedder: Embedder, folder: Path, prompts: dict[str, str]) -> None:
    """Write the folder; ConfigError where `why_not_plain` has a reason, or sentence-transformers is not installed."""
    if reason := why_not_plain(embedder):
        raise ConfigError(f"{folder.name}: {reason}; it is exported with code of ours")
    made = _sentence_transformer(embedder)
    made.prompts = dict(prompts)
    made.save(str(folder), create_model_card=False)


def _sentence_transformer(embedder: Embedder) -> SentenceTransformer:
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules.dense import Dense
        from sentence_transformers.base.modules.normalize import Normalize
        from sentence_transformers.base.modules.transformer import Transformer
        from sentence_transformers.sentence_transformer.modules.pooling import Pooling
    except ImportError as error:
        raise ConfigError(f"to=sentence-transformers: {error}; pip install 'sentence-transformers>=6'") from error
    weight_EP, bias_E = _folded(embedder)
    size, width = weight_EP.shape
    with tempfile.TemporaryDirectory() as temporary:
        embedder.backbone.model.save_pretrained(temporary)
        processor_of(embedder).save_pretrained(temporary)
        first = Transformer(temporary)
    head = Dense(width, size, True, torch.nn.Identity(), weight_EP, bias_E)
    return SentenceTransformer(
        modules=[first, Pooling(width, "mean"), head, Normalize()], device="cpu", similarity_fn_name="cosine"
    )


def _folded(embedder: Embedder) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [E, P] and bias [E] of the head, centring and scale in it: W ((x - m) s) + b = (W s) x + b - (W s) m."""
    head = embedder.head
    weight_EP = (head.weight * embedder.pooled_scale_P).detach().clone()
    return weight_EP, (head.bias - weight_EP @ embedder.pooled_mean_P).detach().clone()


def processor_of(embedder: Embedder) -> transformers.EmbeddingGemma2Processor:
    """The model's own processor with our numbers."""
    backbone, numbers = embedder.backbone, embedder.processor.preprocessing
    layout = backbone.layout
    look = {
        "patch_size": layout.patch,
        "pooling_kernel_size": layout.token_pixels // layout.patch,
        "image_mean": list(backbone.described["image_mean"]),
        "image_std": list(backbone.described["image_std"]),
        "do_normalize": True,
    }
    template = _TEMPLATE
    for letters, kind in (("IMAGE", "image"), ("AUDIO", "audio"), ("VIDEO", "video")):
        template = template.replace(letters, _token(embedder, layout.placeholders[kind]))
    return transformers.EmbeddingGemma2Processor(
        feature_extractor=transformers.Gemma4AudioFeatureExtractor(**layout.sound),
        image_processor=transformers.Gemma4ImageProcessor(max_soft_tokens=numbers.image_max_tokens, **look),
        video_processor=transformers.EmbeddingGemma2VideoProcessor(
            max_soft_tokens=numbers.frame_max_tokens, max_frames=numbers.video_max_frames, fps=numbers.video_fps,
            num_frames=None, overflow_strategy="uniform", **look,
        ),
        tokenizer=_tokenizer(embedder),
        chat_template=template,
    )  # fmt: skip


def _tokenizer(embedder: Embedder) -> transformers.PreTrainedTokenizerFast:
    """Our tokenizer under the names that the processor asks for."""
    layout, own = embedder.backbone.layout, embedder.processor.tokenizer
    seen, heard = layout.marks["image"], layout.marks["audio"]
    ids = {
        "boi_token": seen[0][0], "eoi_token": seen[1][0], "image_token": layout.placeholders["image"],
        "boa_token": heard[0][0], "eoa_token": heard[1][0], "audio_token": layout.placeholders["audio"],
    }  # fmt: skip
    config = embedder.backbone.text.config
    around: dict[str, Any] = {"pad_token": _token(embedder, config.pad_token_id)}
    around |= {"bos_token": _token(embedder, own.start[0])} if own.start else {}
    around |= {"eos_token": _token(embedder, own.end[0])} if own.end else {}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(own.tokenizer.to_str()),  # which then reads special tokens as such
        extra_special_tokens={name: _token(embedder, number) for name, number in ids.items()},
        model_max_length=embedder.processor.preprocessing.max_tokens,
        **around,
    )


def _token(embedder: Embedder, number: int) -> str:
    return embedder.processor.tokenizer.tokenizer.id_to_token(number)
