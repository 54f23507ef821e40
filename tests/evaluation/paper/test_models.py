"""The models that calibrate the harness: their own library's vectors, from the layouts that their weights come in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from commonspace.configuration import compose, config_folder
from commonspace.content import Image, Text
from commonspace.errors import ConfigError
from commonspace.evaluation.paper import run
from commonspace.evaluation.paper.models import _picture, load_model
from tests.evaluation.paper.conftest import pool

DOCS = config_folder().parent / "docs"
CALIBRATING = sorted(
    {
        name
        for path in [*(config_folder() / "experiment/paper").glob("*.yaml"), DOCS / "paper_tables.md"]
        for name in re.findall(r"open_clip:([\w-]+/\w+)", path.read_text())
    }
    - {"NAME/WEIGHTS"}
)


@pytest.mark.parametrize("name", CALIBRATING)
def test_named_weights_run_with_the_activation_they_were_trained_with(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built whole by open_clip, on no device and without weights: OpenAI's have QuickGELU, the others have none."""
    import warnings

    import open_clip
    from open_clip import factory
    from open_clip.transformer import QuickGELU

    built: list[torch.nn.Module] = []
    monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: "weights")
    monkeypatch.setattr(factory, "load_checkpoint", lambda model, *_, **__: built.append(model))
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda _: None)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.filterwarnings("error", message="QuickGELU mismatch")
        load_model(f"open_clip:{name}", "meta", precision="32-true", video={}, cache=None)
    found = [type(module) for module in built[0].modules() if isinstance(module, (QuickGELU, torch.nn.GELU))]
    assert found and set(found) == ({QuickGELU} if name.endswith("/openai") else {torch.nn.GELU})


def test_all_published_rows_of_table_4_that_open_clip_has_are_named() -> None:
    assert len(CALIBRATING) == 6


@pytest.fixture(params=["clip", "siglip2"])
def clip_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A random small model as open_clip lays it out on the hub: CLIP, or SigLIP2 with a trunk of timm, pooling by
    attention, a text tower without a mask that ends in a projection with bias, a Hugging Face tokenizer, the bias of a
    sigmoid.
    """
    import open_clip
    from open_clip.model import CLIP, CustomTextCLIP
    from safetensors.torch import save_file
    from transformers import PreTrainedTokenizerFast

    from tests.models.tiny import tiny_tokenizer

    torch.manual_seed(0)
    pixels = {"mean": [0.5] * 3, "std": [0.5] * 3}
    if request.param == "clip":
        config = {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
            "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
        }
        model = CLIP(**config)
    else:
        published = open_clip.get_model_config("ViT-B-16-SigLIP2-256")
        published["vision_cfg"] |= {"image_size": 160, "timm_model_name": "test_vit3"}
        published["text_cfg"] |= {"vocab_size": 64, "width": 32, "heads": 2, "layers": 1, "hf_tokenizer_name": "here"}
        config = published | {"embed_dim": 96}
        model = CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})
        special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
        PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), **special).save_pretrained(tmp_path)
        pixels |= {"interpolation": "bicubic", "resize_mode": "squash"}
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
    return tmp_path


def test_open_clip_rows_run_by_the_same_code(clip_folder: Path, root: Path, tmp_path: Path) -> None:
    import open_clip

    embedder = f"open_clip:{clip_folder}"
    options = ["experiment=paper/table4", f"embedder={embedder}", f"root={root}", f"paths.runs={tmp_path}", "name=clip"]
    run.main(compose("evaluate_paper", [*options, "bootstrap=20"]))
    found = json.loads((tmp_path / "paper/table4/clip.json").read_text())["rows"]
    assert len(found) == 5
    model, pixels = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    sigmoid = isinstance(model, open_clip.CustomTextCLIP)
    assert (float(model.logit_bias) == -10) if sigmoid else model.logit_bias is None
    asked = pool(root, "table4", "ArtCap")
    from PIL import Image as pil

    with torch.no_grad():
        images = torch.stack([pixels(pil.open(one.parts[0].source).convert("RGB")) for one in asked.queries])
        image_QE = model.encode_image(images, normalize=True)
        words = open_clip.get_tokenizer(f"local-dir:{clip_folder}")([one.parts[0].text for one in asked.items])
        text_GE = model.encode_text(words, normalize=True)
    ours = load_model(embedder, "cpu", precision="32-true", video={}, cache=None).embed([*asked.queries, *asked.items])
    np.testing.assert_allclose(ours, torch.cat([image_QE, text_GE]).numpy(), atol=1e-5)
    with pytest.raises(ConfigError, match="two towers read one image or one text, no image.text"):
        load_model(embedder, "cpu", precision="32-true", video={}, cache=None).embed(
            pool(root, "table1", "I+T->T EncyclopedicVQA").queries
        )
    with pytest.raises(ConfigError, match="is no folder; of a known model name its weights too"):
        load_model("open_clip:ViT-B-32", "cpu", precision="32-true", video={}, cache=None)
    with pytest.raises(ConfigError, match="precision: of a model folder of ours alone"):
        load_model(embedder, "cpu", precision="bf16-mixed", video={}, cache=None)


def test_align_rows_run_by_the_same_code(root: Path, tmp_path: Path) -> None:
    from transformers import (
        AlignConfig,
        AlignModel,
        AlignProcessor,
        AlignVisionConfig,
        AlignVisionModel,
        BertTokenizerFast,
        EfficientNetImageProcessor,
    )  # fmt: skip

    from tests.models.tiny import WORDS

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    text = {
        "vocab_size": len(words),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    vision = {
        "image_size": 32, "width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 64, "in_channels": [32, 16],
        "out_channels": [16, 24], "kernel_sizes": [3, 3], "strides": [1, 2], "num_block_repeats": [1, 1],
        "expand_ratios": [1, 6], "depthwise_padding": [],
    }  # fmt: skip
    folder = tmp_path / "align"
    pooled = AlignVisionModel(AlignVisionConfig(**vision))(torch.zeros(1, 3, 32, 32)).pooler_output.shape[1]
    AlignModel(AlignConfig(text_config=text, vision_config=vision, projection_dim=pooled)).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    AlignProcessor(
        EfficientNetImageProcessor(size=size), BertTokenizerFast(str(tmp_path / "vocab.txt"))
    ).save_pretrained(folder)
    model = load_model(f"align:{folder}", "cpu", precision="32-true", video={}, cache=None)
    asked = pool(root, "table4", "ArtCap")
    vectors = model.embed([*asked.items, *asked.queries])
    assert vectors.shape[0] == 24 and np.isfinite(vectors).all()
    contents = [one.parts[0] for one in (*asked.items, *asked.queries)]
    pictures, texts = ([n for n, part in enumerate(contents) if isinstance(part, kind)] for kind in (Image, Text))
    read = AlignProcessor.from_pretrained(folder)(
        images=[_picture(contents[n]) for n in pictures], text=[contents[n].text for n in texts],
        padding=True, return_tensors="pt",
    )  # fmt: skip
    with torch.no_grad():
        whole = AlignModel.from_pretrained(folder).eval()(**read)
    np.testing.assert_allclose(vectors[pictures], torch.nn.functional.normalize(whole.image_embeds).numpy(), atol=1e-5)
    np.testing.assert_allclose(vectors[texts], torch.nn.functional.normalize(whole.text_embeds).numpy(), atol=1e-5)
    one = model.embed([asked.items[2]])
    np.testing.assert_allclose(one[0], vectors[2], atol=1e-5, err_msg="neighbours in the batch move a vector")
