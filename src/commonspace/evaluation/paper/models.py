"""What the tables are run with: our model folders, and the dual encoders whose published rows calibrate the harness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from commonspace.content import Content, Image, Text
from commonspace.errors import ConfigError
from commonspace.models.embedder import Embedder
from commonspace.models.precision import InPrecision
from commonspace.processing.image import read_image

_BATCH = 64
_SIDE = 1024  # pixels that an SVG is drawn with
_MOST_PIXELS = 50_000_000
OPEN_CLIP, ALIGN = "open_clip:", "align:"


class DualEncoder:
    """Two towers that meet in one space: an image or a text at a time, to unit vectors."""

    def __init__(
        self, image: Callable[[Sequence[Any]], torch.Tensor], text: Callable[[Sequence[str]], torch.Tensor]
    ) -> None:
        self._towers = {Image: image, Text: text}

    @torch.no_grad()
    def embed(
        self, contents: Sequence[Content], *, task: str | None = None, role: str | None = None, progress: bool = False
    ) -> np.ndarray:
        """Vectors [N, E]; ConfigError for a content that is not one image or one text. No prefix is known here."""
        kinds = {tuple(type(part) for part in content.parts) for content in contents}
        if odd := kinds - {(Image,), (Text,)}:
            names = ["+".join(kind.__name__.lower() for kind in one) for one in odd]
            raise ConfigError(f"embedder: two towers read one image or one text, no {', '.join(sorted(names))}")
        out: list[torch.Tensor] = [torch.empty(0)] * len(contents)
        for kind in (Image, Text):
            rows = [row for row, content in enumerate(contents) if isinstance(content.parts[0], kind)]
            starts = range(0, len(rows), _BATCH)
            for start in track(starts, description=f"embedding {kind.__name__.lower()}s", disable=not progress):
                some = rows[start : start + _BATCH]
                parts = [contents[row].parts[0] for row in some]
                values = [_picture(part) if kind is Image else part.text for part in parts]
                for row, vector in zip(some, self._towers[kind](values), strict=True):
                    out[row] = torch.nn.functional.normalize(vector.float(), dim=-1).cpu()
        return torch.stack(out).numpy()


def _picture(part: Any) -> Any:
    """Upright RGB, as our own towers see it; what a tower does with it is in its own preprocessing."""
    return read_image(part, _SIDE, _MOST_PIXELS, lambda picture: picture)  # type: ignore[arg-type, return-value]


def load_model(embedder: str, device: str, *, precision: str, video: dict[str, float], cache: Path | None) -> Any:
    """What embeds: "open_clip:NAME/WEIGHTS", "open_clip:FOLDER", "align:FOLDER", else a model folder of ours.

    video  numbers of the preprocessing that the tables set (video_fps, video_max_frames); of a model folder alone
    """
    if embedder.startswith((OPEN_CLIP, ALIGN)) and precision != "32-true":
        raise ConfigError(f"precision: of a model folder of ours alone, {embedder} runs in 32-true; leave it out")
    if embedder.startswith(OPEN_CLIP):
        return _open_clip(embedder.removeprefix(OPEN_CLIP), device)
    if embedder.startswith(ALIGN):
        return _align(embedder.removeprefix(ALIGN), device)
    model = Embedder.load(embedder, on_limit="truncate").to(device)
    if cache is not None and model.backbone.towers():
        from commonspace.data.features import attach_features

        attach_features(model, cache)
    if video:
        model.processor = model.processor.with_numbers(**video)
    return InPrecision(model, precision)


def _open_clip(name: str, device: str) -> DualEncoder:
    import open_clip

    known, _, weights = name.partition("/")
    quick = False
    if Path(name).is_dir():
        named, weights = f"local-dir:{name}", ""
    elif weights:  # OpenAI's were trained with QuickGELU, which their names' configs lack: open_clip only warns
        named, quick = known, bool(open_clip.get_pretrained_cfg(known, weights).get("quick_gelu"))
    else:
        raise ConfigError(
            f"embedder={OPEN_CLIP}{name}: is no folder; of a known model name its weights too, ViT-B-32/openai"
        )
    model, pixels = open_clip.create_model_from_pretrained(
        named, pretrained=weights or None, device=device, force_quick_gelu=quick
    )
    words = open_clip.get_tokenizer(named)
    model.eval()
    return DualEncoder(
        lambda images: model.encode_image(torch.stack([pixels(image) for image in images]).to(device)),
        lambda texts: model.encode_text(words(list(texts)).to(device)),
    )


def _align(folder: str, device: str) -> DualEncoder:
    from transformers import AlignModel, AutoProcessor

    model = AlignModel.from_pretrained(folder).to(device).eval()
    processor = AutoProcessor.from_pretrained(folder)

    def vectors(found: Any) -> torch.Tensor:
        return found if isinstance(found, torch.Tensor) else found.pooler_output

    def image(images: Sequence[Any]) -> torch.Tensor:
        return vectors(model.get_image_features(**processor(images=list(images), return_tensors="pt").to(device)))

    def text(texts: Sequence[str]) -> torch.Tensor:
        read = processor(text=list(texts), return_tensors="pt", padding=True, truncation=True)
        return vectors(model.get_text_features(**read.to(device)))

    return DualEncoder(image, text)
