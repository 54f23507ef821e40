"""Pooled outputs of the frozen pretrained parts: all that the late-fusion baseline ever sees.

They come through the model's own processor and towers, or the feature cache, so the baseline has the same pixels, the
same frames and the same second of sound as the model it is compared with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.progress import track

from commonspace.content import Audio, Content, Document, Image, Text, Video
from commonspace.errors import ContentError
from commonspace.files import replaced
from commonspace.models.embedder import Embedder
from commonspace.models.towers.fingerprint import weights_fingerprint
from commonspace.processing.pieces import Piece, Pieces

Kind = Literal["text", "image", "audio", "video"]
SEGMENTS = 4  # of a video, each averaged alone: the baseline keeps the order of what happens
_CHUNKS: dict[Kind, int] = {"text": 8192, "image": 512, "audio": 512, "video": 512}  # contents processed at once
_BATCH_TOKENS = 4096
_PARTS = {"image": Image, "audio": Audio, "video": Video}


def texts_of(content: Content) -> list[str]:
    """All texts of a content in order, those inside documents too."""
    texts: list[str] = []
    for part in content.parts:
        inner = part.parts if isinstance(part, Document) else (part,)
        texts += [piece.text for piece in inner if isinstance(piece, Text)]
    return texts


class FrozenFeatures:
    """Vectors of single parts, computed once per distinct content and kept on disk where a folder is given.

    `embedder` is an untrained model: its backbone's text encoder and towers are used, its head and connectors are not.
    `precision` is the text encoder's: 32-true or bf16-mixed.
    """

    def __init__(self, embedder: Embedder, folder: Path | None = None, precision: str = "32-true") -> None:
        self.embedder, self.folder, self.precision = embedder.eval(), folder, precision
        self._vectors: dict[Kind, dict[int, np.ndarray]] = {}

    def vectors(self, contents: Sequence[Content], kind: Kind, progress: bool = False) -> np.ndarray:
        """float32 [N, width] of the one part of that kind in each content (its texts joined, for text).

        text   the text encoder's mean over tokens                               [D]
        image  mean over the trunk's grid                                        [C]
        audio  mean and maximum over time                                        [2 A]
        video  mean over the grid of each of 4 stretches of frames, then sound   [4 C + 2 A], zeros where it is mute
        Raises ContentError where a content has no such part.
        """
        if kind not in self._vectors:
            self._vectors[kind] = self._load(kind)
        known = self._vectors[kind]
        parts = [_only(content, kind) for content in contents]
        digests = [part.digest() for part in parts]
        missing = {digest: part for digest, part in zip(digests, parts, strict=True) if digest not in known}
        todo = list(missing.items())
        chunks = [todo[start : start + _CHUNKS[kind]] for start in range(0, len(todo), _CHUNKS[kind])]
        for chunk in track(chunks, description=f"frozen {kind} features", disable=not (progress and chunks)):
            rows = self._compute([part for _, part in chunk], kind)
            known.update({digest: row for (digest, _), row in zip(chunk, rows, strict=True)})
        if todo:
            self._store(kind)
        return np.stack([known[digest] for digest in digests])

    @torch.no_grad()
    def _compute(self, parts: list[Content], kind: Kind) -> np.ndarray:
        pieces = [self.embedder.processor(part) for part in parts]
        if kind == "text":
            return self._encode(pieces)
        images = _rows(self, [piece for item in pieces for piece in item.pieces if piece.kind == "image"])
        sounds = _rows(self, [piece for item in pieces for piece in item.pieces if piece.kind == "audio"])
        vectors = []
        for item in pieces:
            frames = [next(images).mean(0) for piece in item.pieces if piece.kind == "image"]
            sound = [next(sounds) for piece in item.pieces if piece.kind == "audio"]
            vectors.append(self._pool(kind, frames, sound))
        return np.stack(vectors)

    def _encode(self, texts: list[Pieces]) -> np.ndarray:
        out_ND = torch.empty(len(texts), self.embedder.backbone.width)
        with torch.autocast(self.embedder.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            for rows in self.embedder.batches(texts, _BATCH_TOKENS):
                out_ND[rows] = self.embedder.pool([texts[row] for row in rows]).float().cpu()
        return out_ND.numpy()

    def _pool(self, kind: Kind, frames: list[torch.Tensor], sounds: list[torch.Tensor]) -> np.ndarray:
        if kind == "image":
            return torch.stack(frames).mean(0).numpy()
        width = getattr(self.embedder.backbone.towers().get("audio"), "width", 0)
        if sounds:
            rows = torch.cat(sounds)
            sound = torch.cat([rows.mean(0), rows.amax(0)])
        else:
            sound = torch.zeros(2 * width)
        if kind == "audio":
            return sound.numpy()
        stretches = np.array_split(np.arange(len(frames)), min(SEGMENTS, len(frames)))
        means = [torch.stack([frames[i] for i in stretch]).mean(0) for stretch in stretches]
        means += [means[-1]] * (SEGMENTS - len(means))  # a clip shorter than its stretches stands still at its end
        return torch.cat([*means, sound]).numpy()

    def fingerprint(self, kind: Kind) -> str:
        """Of the weights, of every number of preprocessing and of a text's precision: equal ones, equal vectors."""
        towers = self.embedder.backbone.towers()
        modules = {"text": ["text"], "image": ["image"], "audio": ["audio"], "video": ["image", "audio"]}[kind]
        state = hashlib.blake2b(json.dumps(self.embedder.processor.preprocessing.to_json(), sort_keys=True).encode())
        for name in modules:
            module = self.embedder.backbone.text if name == "text" else towers.get(name)
            state.update((weights_fingerprint(module) if module is not None else "none").encode())
        if kind == "text" and self.precision != "32-true":
            state.update(self.precision.encode())
        return state.hexdigest()[:16]

    def _path(self, kind: Kind) -> Path | None:
        return self.folder / f"pooled-{kind}-{self.fingerprint(kind)}.npz" if self.folder else None

    def _load(self, kind: Kind) -> dict[int, np.ndarray]:
        path = self._path(kind)
        if path is None or not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as stored:
            return dict(zip(stored["digests"].tolist(), stored["vectors"], strict=True))

    def _store(self, kind: Kind) -> None:
        path = self._path(kind)
        if path is None:
            return
        known = self._vectors[kind]
        with replaced(path) as partial, partial.open("wb") as file:
            np.savez(file, digests=np.array(list(known), dtype=np.int64), vectors=np.stack(list(known.values())))


def _only(content: Content, kind: Kind) -> Content:
    """The part of one kind as a content of its own; for text all texts, joined."""
    if kind == "text":
        texts = texts_of(content)
        if texts:
            return Content("\n".join(texts))
    else:
        found = [part for part in content.parts if isinstance(part, _PARTS[kind])]
        if len(found) == 1:
            return Content(found[0])
    raise ContentError(f"a content of {sorted(content.modalities)} does not hold one {kind} for the frozen encoder")


def _rows(features: FrozenFeatures, pieces: list[Piece]):
    """The frozen tower's rows [R, width] of each piece, in order, float32."""
    towers = features.embedder.backbone.towers()
    position = 0
    while position < len(pieces):
        first = pieces[position]
        alike = position
        while alike < min(len(pieces), position + 32) and _alike(first, pieces[alike]):
            alike += 1
        batch = torch.stack([piece.value for piece in pieces[position:alike]])
        if not first.is_feature:
            tower, batch = towers[first.kind], batch.to(features.embedder.device)
            batch = tower(batch, first.grid or first.tokens) if first.kind == "image" else tower(batch)
        yield from batch.float().cpu()
        position = alike


def _alike(first: Piece, other: Piece) -> bool:
    return (first.value.shape, first.is_feature, first.tokens) == (other.value.shape, other.is_feature, other.tokens)
