"""open_clip's dual tower as an embedder: a timm trunk for pictures, a transformer for texts, a projection of each.

Pictures are the pixels that our own model sees. Legend: N contents, C channels of the trunk, E embedding size.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from commonspace.content import Content, Image
from commonspace.errors import ContentError, WeightsError
from commonspace.evaluation.frozen import texts_of
from commonspace.files import write_json
from commonspace.models.device import best_device
from commonspace.models.towers.timm_weights import load_timm_tensors, read_timm_config
from commonspace.processing.image import read_image

if TYPE_CHECKING:
    from open_clip.model import CustomTextCLIP

OPEN_CLIP = "open_clip_config.json"
_WEIGHTS = "open_clip_model.safetensors"
_TEXT = "text"  # the text tower's config.json and tokenizer.json
_AT_ONCE = 64  # contents


class DualTower:
    """`model` is open_clip's, `config` what it is built of and what a picture becomes.

    `folder` has the text tower's config.json and tokenizer.json.
    """

    kinds = "one picture, or text"
    prompted = False

    def __init__(self, model: CustomTextCLIP, tokenizer: Tokenizer, config: dict[str, Any], folder: Path) -> None:
        self.model, self.config, self._text_folder = model.eval(), config, folder
        tokenizer.no_padding()
        tokenizer.enable_truncation(config["model_cfg"]["text_cfg"]["context_length"])
        self.tokenizer = tokenizer
        self.trunk_rows: dict[int, torch.Tensor] = {}  # of pictures, by digest: the trunk never trains

    @classmethod
    def from_weights(cls, vision: Path, text: Path, *, size: int, max_pixels: int, embedding_size: int) -> DualTower:
        """New projections, open_clip's two MLPs, over a timm trunk and a transformer.

        vision, text  weights folders as `resolve_weights` gives them
        """
        described = read_timm_config(vision)
        vision_cfg = {
            "timm_model_name": described.architecture,
            "timm_pool": "avg",
            "timm_proj": "mlp",
            "image_size": size,
        }
        limit = json.loads((text / "config.json").read_text())["max_position_embeddings"]
        text_cfg = {"hf_proj_type": "mlp", "hf_pooler_type": "mean_pooler", "context_length": limit}
        pixels = {"size": size, "max_pixels": max_pixels, "mean": described.mean, "std": described.std}
        config = {
            "model_cfg": {"embed_dim": embedding_size, "vision_cfg": vision_cfg, "text_cfg": text_cfg},
            "preprocess_cfg": pixels,
        }
        model = _build(config, text, pretrained=True)
        load_timm_tensors(model.visual.trunk, vision, described.architecture)
        return cls(model, Tokenizer.from_file(str(text / "tokenizer.json")), config, text)

    @classmethod
    def load(cls, folder: Path) -> DualTower:
        """The tower that `save` wrote; WeightsError for another folder of open_clip's, or a damaged one."""
        text = folder / _TEXT
        try:
            config = json.loads((folder / OPEN_CLIP).read_text())
            model = _build(config, text, pretrained=False)
            model.load_state_dict(load_file(folder / _WEIGHTS))
            return cls(model.to(best_device()), Tokenizer.from_file(str(text / "tokenizer.json")), config, text)
        except Exception as error:
            raise WeightsError(
                f"{folder}: is no dual tower that `commonspace rival` wrote, or a damaged one ({error}); train it again"
            ) from error

    def save(self, folder: Path) -> None:
        """Write what `load` reads, in open_clip's names, the text tower's config and tokenizer beside it."""
        (folder / _TEXT).mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}, folder / _WEIGHTS)
        for name in ("config.json", "tokenizer.json"):
            if (self._text_folder / name) != folder / _TEXT / name:
                shutil.copyfile(self._text_folder / name, folder / _TEXT / name)
        write_json(folder / OPEN_CLIP, self.config)

    def reads(self, content: Content) -> bool:
        """One picture alone, or texts."""
        return content.is_text or (len(content.parts) == 1 and isinstance(content.parts[0], Image))

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """int64 [N, L], padded at the right to the longest."""
        rows = [torch.tensor(encoding.ids) for encoding in self.tokenizer.encode_batch(list(texts))]
        return torch.nn.utils.rnn.pad_sequence(
            rows, batch_first=True, padding_value=self.model.text.config.pad_token_id
        )

    @torch.no_grad()
    def rows(self, contents: Sequence[Content], progress: bool = False) -> torch.Tensor:
        """Pooled outputs of the trunk [N, C] of pictures, float32; each distinct picture goes through it once."""
        missing = {content.digest(): content for content in contents}
        missing = {digest: content for digest, content in missing.items() if digest not in self.trunk_rows}
        chunks = [list(missing.items())[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE)]
        for chunk in track(chunks, description="pictures", disable=not (progress and chunks)):
            pixels_NCHW = torch.stack([self._pixels(content.parts[0]) for _, content in chunk])
            self.trunk_rows.update(
                zip([digest for digest, _ in chunk], self.model.visual.trunk(pixels_NCHW).cpu(), strict=True)
            )
        return torch.stack([self.trunk_rows[content.digest()] for content in contents])

    def _pixels(self, part: Image) -> torch.Tensor:
        """float32 [3, size, size], normalised."""
        told = self.config["preprocess_cfg"]
        mean_C11, std_C11 = (torch.tensor(told[name]).view(-1, 1, 1) for name in ("mean", "std"))
        pixels = (read_image(part, told["size"], told["max_pixels"]) / 255 - mean_C11) / std_C11
        return pixels.to(self.model.logit_scale.device)

    @torch.no_grad()
    def embed(
        self, contents: Sequence[Content], *, task: str | None = None, role: str | None = None, progress: bool = False
    ) -> np.ndarray:
        """Unit vectors float32 [N, E]; `task` and `role` change nothing, for the model has no prompts.

        Raises ContentError for a content that is neither one picture nor text.
        """
        if unread := next((content for content in contents if not self.reads(content)), None):
            raise ContentError(f"a content of {sorted(unread.modalities)}: a dual tower reads one picture, or text")
        out_NE = np.zeros((len(contents), self.model.text.output_dim), dtype=np.float32)
        pictures = [row for row, content in enumerate(contents) if not content.is_text]
        if pictures:
            rows_NC = self.rows([contents[row] for row in pictures], progress)
            out_NE[pictures] = _unit(self.model.visual.head(rows_NC.to(self.model.logit_scale.device)))
        texts = {row: "\n".join(texts_of(content)) for row, content in enumerate(contents) if content.is_text}
        by_length = sorted(texts, key=lambda row: len(texts[row]))
        chunks = [by_length[start : start + _AT_ONCE] for start in range(0, len(by_length), _AT_ONCE)]
        for chunk in track(chunks, description="texts", disable=not (progress and chunks)):
            ids_NL = self.tokens([texts[row] for row in chunk]).to(self.model.logit_scale.device)
            out_NE[chunk] = _unit(self.model.text(ids_NL))
        return out_NE


def _build(config: dict[str, Any], text: Path, pretrained: bool) -> CustomTextCLIP:
    """open_clip's model of a config, its text tower's config, and where `pretrained` its tensors, from a folder."""
    from open_clip.model import CustomTextCLIP

    told = config["model_cfg"]
    text_cfg = {**told["text_cfg"], "hf_model_name": str(text), "hf_model_pretrained": pretrained}
    return CustomTextCLIP(told["embed_dim"], told["vision_cfg"], text_cfg, output_dict=True)


def _unit(vectors_NE: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors_NE.float(), dim=-1).cpu().numpy()
