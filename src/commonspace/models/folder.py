"""The model folder: everything that turns a file into its vector, and the vectors it must give.

model.safetensors   tensors        config.json         architecture and sizes
tokenizer.json      text to ids    preprocessing.json  every number that turns a file into tensors
golden.json         inputs with the vectors they must give      README.md  model card
training.json       stage, seed, run and dev figures, where a stage of ours made it
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image as PILImage
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from commonspace.content import Audio as Sound
from commonspace.content import Content, Image
from commonspace.errors import ConfigError, WeightsError
from commonspace.files import sha256_of
from commonspace.models.backbones.inputs_embeds import InputsEmbedsBackbone
from commonspace.models.backbones.kinds import BACKBONES
from commonspace.models.backbones.native import NativeBackbone
from commonspace.models.build import processor_of
from commonspace.models.embedder import Embedder
from commonspace.models.parts import pretrained_parts, with_parts
from commonspace.models.replacing import replaced_folder
from commonspace.models.towers.kinds import check_towers, describe_tower, described_audio, described_vision
from commonspace.processing.text import TextTokenizer

FORMAT = (
    6  # 3 knows one class a tower and does not name it; before 5 a text layer took contents of text alone; before 6
)
# whole multimodal transformers always attended both ways
ADAPTER, ADAPTER_TENSORS = "adapter.json", "adapter.safetensors"  # of a folder that holds an adapter alone
_DECIDE = ("config.json", "preprocessing.json", "tokenizer.json", "model.safetensors")  # a vector
_PARTS = {"image": "vision", "audio": "audio"}  # what config.json calls the towers


def save_model(embedder: Embedder, folder: Path, card: str = "", training: Mapping[str, Any] | None = None) -> None:
    """Write a model folder beside its final place, then put it there in one move; an older folder is replaced."""
    with replaced_folder(folder) as target:
        tensors = {name: t.detach().cpu().contiguous() for name, t in embedder.state_dict().items()}
        if any(".lora_" in name for name in tensors):
            raise ConfigError(f"{folder}: the model has adapters; merge them first, or save them alone as an adapter")
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        config = describe(embedder)
        write_json(target / "config.json", config)
        write_json(target / "preprocessing.json", embedder.processor.preprocessing.to_json())
        embedder.processor.tokenizer.tokenizer.save(str(target / "tokenizer.json"))
        write_json(target / "golden.json", golden_vectors(embedder))
        if training is not None:
            write_json(target / "training.json", dict(training))
        card = card or f"# {folder.name}\n\nA commonspace model folder without a card.\n"
        (target / "README.md").write_text(with_parts(card, pretrained_parts(config)))


def load_model(folder: Path, towers: Collection[str] | None = None) -> Embedder:
    """The model of a folder, in evaluation mode. `towers` names what to hold beside text ("image", "audio").

    Raises WeightsError where a file is missing, of another format, or does not fit its own config.
    """
    config = read_json(folder / "config.json")
    if config.get("format") not in (3, 4, 5, FORMAT) or config.get("backbone") not in BACKBONES:
        raise WeightsError(
            f"{folder}/config.json: format {config.get('format')} of {config.get('backbone')!r} is unknown"
        )
    if config["format"] < 5 and config["text_hidden"]:
        raise WeightsError(
            f"{folder}/config.json: in format {config['format']} contents of text alone passed the text layer, and now "
            "each does by its share of text: train the model again, or read it with the version that made it"
        )
    kind = BACKBONES[config["backbone"]]
    kept = _kept_towers(folder, config, towers)
    backbone = kind.of_config(config, kept) if issubclass(kind, NativeBackbone) else _joined(kind, config, kept)
    preprocessing = kind.preprocessing.from_json(read_json(folder / "preprocessing.json"))
    if not kind.own_towers:
        check_towers(backbone.towers().values(), preprocessing)
    embedder = Embedder(
        backbone,
        processor_of(backbone, preprocessing, TextTokenizer.from_folder(folder)),
        embedding_size=config["embedding_size"],
        matryoshka_sizes=tuple(config["matryoshka_sizes"]),
        pooling=config["pooling"],
        text_hidden=config["text_hidden"],
    )
    embedder.weights = config.get("weights")
    _load_tensors(embedder, folder / "model.safetensors", dropped=set(kind.tower_modules) - kept)
    return embedder.eval()


def folder_fingerprint(folder: Path) -> str:
    """32 hex digits over the bytes of every file that decides a vector: equal fingerprints give equal vectors.

    Of an adapter's folder these are the adapter's and its base's, wherever that lies. Raises WeightsError where one of
    them cannot be read.
    """
    hashes = deciding_hashes(folder)
    return hashlib.blake2b(b"".join(map(bytes.fromhex, hashes.values())), digest_size=16).hexdigest()


def deciding_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every file that decides a vector, by name; for an adapter its base's as it names them, then its own."""
    named = read_json(folder / ADAPTER)["base"]["sha256"] if (folder / ADAPTER).is_file() else {}
    return named | {name: _sha256(folder / name) for name in ([ADAPTER_TENSORS] if named else _DECIDE)}


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); is it a model folder?") from error


def describe(embedder: Embedder) -> dict[str, Any]:
    """config.json of a model: plain values that `load_model` builds the same architecture from."""
    backbone = embedder.backbone
    if isinstance(backbone, NativeBackbone):
        parts = backbone.describe()
    elif isinstance(backbone, InputsEmbedsBackbone):
        parts = _describe_joined(backbone)
    else:
        raise ConfigError(f"{type(backbone).__name__} has no model folder form")
    return {
        "format": FORMAT,
        "backbone": backbone.name,
        "weights": embedder.weights,
        "embedding_size": embedder.embedding_size,
        "matryoshka_sizes": list(embedder.matryoshka_sizes),
        "pooling": embedder.pooling,
        "text_hidden": embedder.text_layer.expand.out_features if embedder.text_layer else 0,
        **parts,
    }


def _joined(kind: type[InputsEmbedsBackbone], config: Mapping[str, Any], kept: Collection[str]) -> InputsEmbedsBackbone:
    backbone = kind(
        kind.text_of(config["text"]),
        described_vision(config["vision"]) if "image" in kept else None,
        described_audio(config["audio"]) if "audio" in kept else None,
        image_tokens=config["image_tokens"],
        audio_merge=config["audio_merge"],
        connector_hidden=config["connector_hidden"],
    )
    # Folders of before these options have none of them.
    options = ("max_positions", "merge_beyond", "window", "global_every")
    backbone.set_lengths(config.get("positions", "limit"), **{name: config.get(name) for name in options})
    return backbone


def _describe_joined(backbone: InputsEmbedsBackbone) -> dict[str, Any]:
    return {
        "connector_hidden": next((c.expand.out_features for c in backbone.connectors()), None),
        "positions": backbone.positions,
        "max_positions": None if backbone.positions == "limit" else backbone.max_tokens,
        "merge_beyond": backbone.merge_beyond,
        "window": backbone.window,
        "global_every": backbone.global_every,
        "image_tokens": len(backbone.image_connector.positions) if backbone.vision else 0,
        "audio_merge": backbone.audio_connector.merge if backbone.audio else 1,
        "text": backbone.text.config.to_diff_dict(),
        "vision": describe_tower(backbone.vision),
        "audio": describe_tower(backbone.audio),
    }


def golden_contents() -> list[tuple[str, Content]]:
    """Small inputs of every kind, generated: (name, content)."""
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], 128), -1).astype(np.uint8)
    picture, sound = io.BytesIO(), io.BytesIO()
    PILImage.fromarray(pixels).save(picture, "PNG")
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)
    soundfile.write(sound, tone, 8000, format="WAV", subtype="PCM_16")
    image, audio = Image(picture.getvalue(), name="ramp.png"), Sound(sound.getvalue(), name="tone.wav")
    return [
        ("english", Content("A red fox in the snow.")),
        ("japanese", Content("ピンクのフラミンゴ")),
        ("image", Content(image)),
        ("audio", Content(audio)),
        ("interleaved", Content("Before", image, "between", audio, "after")),
    ]


def golden_vectors(embedder: Embedder) -> list[dict[str, Any]]:
    """golden.json: inputs this model can read, media as base64, with their unit vectors."""
    towers = set(embedder.backbone.towers())
    golden = []
    for name, content in golden_contents():
        if (content.modalities - {"text"}) <= towers:
            media: dict[str, str] = {}

            def keep(part: Any, media: dict[str, str] = media) -> str:
                media[part.label] = base64.b64encode(part.read_bytes()).decode()
                return part.label

            value = content.to_json(keep)
            vector = [round(float(x), 7) for x in embedder.embed([content])[0]]
            golden.append({"name": name, "content": value, "media": media, "vector": vector})
    return golden


def check_golden(embedder: Embedder, folder: Path, tolerance: float = 1e-4) -> float:
    """Largest difference from the folder's golden vectors; beyond `tolerance` WeightsError names the input."""
    worst = 0.0
    for entry in read_json(folder / "golden.json"):
        content = Content.from_json(entry["content"], lambda name, media=entry["media"]: base64.b64decode(media[name]))
        if (content.modalities - {"text"}) - set(embedder.backbone.towers()):
            continue
        difference = float(np.abs(embedder.embed([content])[0] - np.array(entry["vector"])).max())
        if difference > tolerance:
            raise WeightsError(
                f"{folder}: golden input {entry['name']!r} is off by {difference:.2e}; the folder or a library changed"
            )
        worst = max(worst, difference)
    return worst


def write_json(path: Path, value: Any) -> None:
    """Readable JSON, non-ASCII kept."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """A JSON file of a model folder; WeightsError names it where it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); is {path.parent} a model folder?") from error
    except ValueError as error:
        raise WeightsError(f"{path}: is no JSON ({error}); take the folder from its source again") from error


def _kept_towers(folder: Path, config: dict[str, Any], towers: Collection[str] | None) -> set[str]:
    present = {name for name, part in _PARTS.items() if config[part] is not None}
    wanted = present if towers is None else set(towers) - {"text"}
    if missing := wanted - present:
        raise ConfigError(f"{folder}: has no {', '.join(sorted(missing))} tower; it has {[*sorted(present), 'text']}")
    return wanted


def _load_tensors(embedder: Embedder, file: Path, dropped: Collection[str]) -> None:
    modules = embedder.backbone.tower_modules
    prefixes = tuple(f"backbone.{module}." for name in dropped for module in modules[name])
    try:
        with safe_open(file, framework="pt") as opened:
            stored = opened.keys()
            names = [name for name in stored if not (prefixes and name.startswith(prefixes))]
            tensors = {name: opened.get_tensor(name) for name in names}
        outcome = embedder.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{file}: does not hold this model's tensors ({error})") from error
    if wrong := [*outcome.missing_keys, *outcome.unexpected_keys]:
        raise WeightsError(f"{file}: does not fit its config.json at {', '.join(wrong[:5])}")
