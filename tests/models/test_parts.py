"""A model's pretrained parts by the names that its config.json gives them."""

from __future__ import annotations

from pathlib import Path

from commonspace.models.parts import pretrained_parts, with_parts


def test_names_come_from_the_config_and_licences_where_they_are_known(tmp_path: Path) -> None:
    config = {
        "weights": "intfloat/multilingual-e5-small",
        "vision": {"class": "timm", "weights": "efficientnet-lite0", "config": {}},
        "audio": {"class": "whisper", "weights": str(tmp_path / "my-whisper"), "config": {}},
    }
    assert pretrained_parts(config) == {
        "intfloat/multilingual-e5-small": "MIT",
        "efficientnet-lite0": "Apache-2.0",
        "my-whisper": "licence: see my-whisper",
    }


def test_what_a_config_does_not_know_is_not_named() -> None:
    assert pretrained_parts({"weights": "Qwen/Qwen3-VL-2B", "vision": "own", "audio": None}).keys() == {
        "Qwen/Qwen3-VL-2B"
    }
    older = {"backbone": "compact", "vision": {"architecture": "tf_efficientnet_lite0"}, "audio": {"d_model": 384}}
    assert pretrained_parts(older) == {}


def test_a_card_names_them_once() -> None:
    card = with_parts("# x\n", {"a": "MIT"})
    assert card == "# x\n\nPretrained parts: a (MIT).\n"
    assert with_parts(card, {"b": "MIT"}) == card and with_parts("# x\n", {}) == "# x\n"
