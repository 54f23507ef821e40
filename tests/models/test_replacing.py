"""What stands where a folder is to be written is replaced if it is ours, and kept and named if not."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import SafetensorError

from commonspace.cli import main as cli
from commonspace.errors import ConfigError, DataError
from commonspace.models.adapter_folder import merge_folder
from commonspace.models.replacing import check_replaceable, replaced_folder
from tests.models.tiny import tiny_embedder


@pytest.mark.parametrize(
    "kind, name, text",
    [
        ("model", "config.json", '{"format": 5, "backbone": "compact"}'),
        ("model", "adapter.json", '{"format": 1, "base": {}}'),
        ("index", "about.json", '{"vectors": 3, "dim": 8}'),
        ("index", None, ""),
    ],
)
def test_an_empty_folder_and_one_of_ours_are_replaced(kind: str, name: str | None, text: str, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    if name:
        (tmp_path / "old" / name).write_text(text)
    with replaced_folder(tmp_path / "old", kind) as new:
        (new / "file").write_text("x")
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["old", "old/file"]


@pytest.mark.parametrize(
    "files, problem",
    [
        ({"notes.txt": "mine"}, "holds files and is no model of ours"),
        ({"about.json": '{"vectors": 3, "dim": 8}'}, "holds files and is no model of ours"),
        ({"config.json": '{"model_type": "bert"}'}, "holds files and is no model of ours"),
        ({"config.json": "no json"}, "holds files and is no model of ours"),
        ({"config.json": '{"format": 5, "backbone": "compact"}', "mini/x": "x"}, "holds the folder mini, and"),
        ({"a/x": "x", "b/x": "x", "c/x": "x"}, "holds the folder a and 2 more, and"),
    ],
)
def test_anything_else_is_kept_and_named(files: dict[str, str], problem: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "old" / name).write_text(text)
    with (
        pytest.raises(ConfigError, match=f"output: .*old {problem}.* name another folder"),
        replaced_folder(tmp_path / "old"),
    ):
        pass
    assert all((tmp_path / "old" / name).read_text() == text for name, text in files.items())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left on device")])
def test_a_full_disk_leaves_what_stood_there_and_nothing_beside_it(error: Exception, tmp_path: Path) -> None:
    tiny_embedder().save(tmp_path / "soup")
    before = {path.name: path.read_bytes() for path in (tmp_path / "soup").iterdir()}
    said = "soup: cannot be written .*No space left.*; free space"
    with pytest.raises(DataError, match=said), replaced_folder(tmp_path / "soup") as new:
        (new / "config.json").write_text("half")
        raise error
    assert {path.name: path.read_bytes() for path in (tmp_path / "soup").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["soup"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "soup").write_text("x")
    with pytest.raises(ConfigError, match="uniform_output: .*soup is a file"):
        check_replaceable(tmp_path / "soup", option="uniform_output")
    check_replaceable(tmp_path / "absent")


def test_an_index_does_not_replace_a_model(tmp_path: Path) -> None:
    tiny_embedder().save(tmp_path / "soup")
    with pytest.raises(ConfigError, match="soup holds files and is no index of ours"):
        check_replaceable(tmp_path / "soup", "index")


def test_a_model_does_not_replace_the_folder_of_models(tmp_path: Path) -> None:
    tiny_embedder().save(tmp_path / "mini/first")
    with pytest.raises(ConfigError, match="mini holds the folder first"):
        tiny_embedder().save(tmp_path / "mini")
    tiny_embedder(seed=1).save(tmp_path / "mini/first")
    with pytest.raises(ConfigError, match="holds no adapter"):
        merge_folder(tmp_path / "mini/first", tmp_path / "mini")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "experiment=mini/finetune_base", "output=models/mini"],
        ["soup", "ingredients=[a,b]", "output=free", "uniform_output=models/mini"],
        ["merge", "adapter", "-o", "models/mini"],
        ["index", "absent.parquet", "-o", "models/mini"],
    ],
)
def test_commands_say_so_before_they_begin(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models/mini/soup").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli(words)
    assert "output: models/mini holds the folder soup, and would be replaced whole" in capsys.readouterr().err
    assert (tmp_path / "models/mini/soup").is_dir()
