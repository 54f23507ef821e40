"""docs/content.md shows forms that exist: its Python makes contents, its JSON is read, its options are options."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf
from PIL import Image as PILImage

from commonspace.configuration import compose
from commonspace.content import Content, content_schema

PAGE = (Path(__file__).parents[2] / "docs" / "content.md").read_text(encoding="utf-8")


def block(language: str) -> list[str]:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S)
    return [line for line in found.splitlines() if line]


def test_python_makes_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "index.html").write_text('<p>A fox</p><img src="fox.png">')
    PILImage.new("RGB", (2, 2)).save(tmp_path / "guide" / "fox.png")
    monkeypatch.chdir(tmp_path)
    first, *rest = block("python")
    scope: dict[str, object] = {}
    exec(first, scope)
    assert all(isinstance(eval(line, scope), Content) for line in rest)


@pytest.mark.parametrize("line", block("json"))
def test_json_validates_and_goes_there_and_back(line: str) -> None:
    value = json.loads(line)
    Draft202012Validator(content_schema()).validate(value)
    content = Content.from_json(value, lambda name: name.encode())
    again = content.to_json(lambda medium: medium.label)
    assert Content.from_json(again, lambda name: name.encode()).digest() == content.digest()
    assert again == (value if isinstance(value, list) else [value])


def test_options_are_options() -> None:
    presets = [compose("train"), compose("train", ["model=omni", "data.features=false"])]
    names = re.findall(r"`(model\.\w+)(?:=\w+)?`", PAGE)
    assert len(names) > 5
    assert all(any(OmegaConf.select(config, name) is not None for config in presets) for name in names)
