from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from commonspace.errors import ConfigError, WeightsError
from commonspace.models.towers.vision import VisionConfig, VisionTower

HALF = (0.5, 0.5, 0.5)
SMALL = VisionConfig("test_efficientnet", HALF, HALF)


def tower(config: VisionConfig = SMALL, *, trained: int = 0) -> VisionTower:
    torch.manual_seed(0)
    vision = VisionTower(config).eval()
    vision.train_last(trained)
    return vision


def pixels(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_rows_are_means_of_the_trunks_map():
    vision, images = tower(), pixels()
    map_NChw = vision.trunk.forward_features((images.float() / 255 - 0.5) / 0.5)
    side = map_NChw.shape[-1]
    assert side == 2
    rows = vision(images, side * side)
    assert rows.shape == (2, side * side, vision.width)
    torch.testing.assert_close(rows, map_NChw.flatten(2).transpose(1, 2))  # row by row from the top left
    torch.testing.assert_close(vision(images, 1)[:, 0], map_NChw.mean((2, 3)))
    assert vision(images, 9).shape == (2, 9, vision.width)  # spread where the map is coarser


def test_batch_neighbours_do_not_matter():
    vision, images = tower().train(), pixels(3)
    torch.testing.assert_close(vision(images, 4)[:1], vision(images[:1], 4))


def test_a_transformers_prefix_tokens_are_no_places():
    vision = tower(VisionConfig("test_vit", HALF, HALF))
    images = pixels(size=160)
    tokens_NPC = vision.trunk.forward_features((images.float() / 255 - 0.5) / 0.5)
    torch.testing.assert_close(vision(images, 100), tokens_NPC[:, 1:])


def test_a_chosen_stage():
    vision = tower(VisionConfig("test_efficientnet", HALF, HALF, stage=-2))
    assert vision(pixels(), 4).shape == (2, 4, vision.width) and vision.width != tower().width
    with pytest.raises(ConfigError, match="^stage=9: "):
        tower(VisionConfig("test_efficientnet", HALF, HALF, stage=9))


def test_batchnorm_statistics_never_move():
    vision = tower(trained=2)
    before = {name: value.clone() for name, value in vision.trunk.named_buffers()}
    vision.train()
    vision(pixels(), 4).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in vision.trunk.named_buffers())


def test_only_the_last_stages_train():
    vision = tower(trained=1).train()
    vision(pixels(), 4).square().mean().backward()
    trained = {
        name.split(".")[0] + "." + name.split(".")[1] for name, p in vision.trunk.named_parameters() if p.requires_grad
    }
    last = f"blocks.{len(vision.trunk.blocks) - 1}"
    assert trained == {last, "conv_head.weight", "bn2.weight", "bn2.bias"}
    assert all((p.grad is not None and p.grad.any()) == p.requires_grad for p in vision.trunk.parameters())
    assert vision.trunk.blocks[-1].training and not vision.trunk.blocks[0].training and not vision.frozen
    assert tower().frozen


def test_the_fingerprint_moves_with_weights_stage_and_normalisation():
    vision = tower()
    assert vision.fingerprint == tower().fingerprint == tower(trained=1).fingerprint
    others = [
        tower(VisionConfig("test_efficientnet", HALF, (0.4, 0.5, 0.5))),
        tower(VisionConfig("test_efficientnet", HALF, HALF, stage=-1)),
        tower(),
    ]
    with torch.no_grad():
        others[-1].trunk.conv_stem.weight[0, 0, 0, 0] += 1e-3
    assert len({vision.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_config_through_json():
    from dataclasses import asdict

    config = VisionConfig("x", (0.1, 0.2, 0.3), HALF, stage=-2)
    assert VisionConfig.from_json(json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tower(VisionConfig("no_such_trunk", HALF, HALF)), "model.vision: timm knows no 'no_such_trunk'"),
        (lambda: tower()(pixels(), 8), "8 tokens is no square grid"),
        (lambda: tower(trained=99), "vision_trainable_stages=99: the timm trunk has"),
        (
            lambda: tower(VisionConfig("test_efficientnet", HALF, HALF, stage=-2), trained=1),
            "has 0 stages",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(make, message: str):
    with pytest.raises(ConfigError, match=message):
        make()


def _folder(path: Path, state: dict, **changes: object) -> Path:
    save_file({name: value.contiguous() for name, value in state.items()}, path / "model.safetensors")
    config = {"architecture": "test_efficientnet", "pretrained_cfg": {"mean": HALF, "std": HALF}, **changes}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_weights_of_a_folder(tmp_path: Path):
    model = timm.create_model("test_efficientnet").eval()
    vision = VisionTower.from_weights(_folder(tmp_path, model.state_dict())).eval()
    expected = model.forward_features((pixels().float() / 255 - 0.5) / 0.5)
    torch.testing.assert_close(vision(pixels(), 4), expected.flatten(2).transpose(1, 2))


def test_weights_that_do_not_fit(tmp_path: Path):
    state = timm.create_model("test_efficientnet").state_dict()
    with pytest.raises(WeightsError, match="lacks 'pretrained_cfg'|lacks 'mean'"):
        VisionTower.from_weights(_folder(tmp_path, state, pretrained_cfg={}))
    del state["conv_head.weight"]
    with pytest.raises(WeightsError, match=r"does not fit test_efficientnet: lacks \['conv_head.weight'\]"):
        VisionTower.from_weights(_folder(tmp_path, state))


def test_efficientnets_features_are_those_its_classifier_reads(weights_folder: Path):
    from safetensors.torch import load_file

    folder = weights_folder / "efficientnet-lite0"
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    vision = VisionTower.from_weights(folder).eval()
    images = pixels(1, 224)
    with torch.no_grad():
        expected = model((images.float() - 127) / 128)
        torch.testing.assert_close(model.classifier(vision(images, 1)[:, 0]), expected, atol=1e-4, rtol=1e-4)
    assert vision.width == 1280


def test_a_cpu_takes_a_few_images_at_a_time():
    vision, images, taken = tower(trained=1), pixels(9), []
    vision.trunk.conv_stem.register_forward_pre_hook(lambda module, given: taken.append(len(given[0])))
    rows = vision(images, 4)
    assert taken == [4, 4, 1]
    each = torch.cat([vision(image[None], 4) for image in images])
    torch.testing.assert_close(rows, each, atol=1e-5, rtol=1e-4)
    rows.sum().backward()
    assert all(p.grad.abs().max() > 0 for p in vision.trunk.conv_head.parameters())
