"""Lineage: one graph from shards to an evaluation, in the folders themselves, that notices another model's bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from commonspace.errors import DataError
from commonspace.tracking.lineage import (
    last,
    read_lineage,
    shards_node,
    tree,
    write_evaluation_lineage,
    write_model_lineage,
)
from commonspace.tracking.runs import main
from commonspace.tracking.state import data_state


def folder(root: Path, name: str) -> Path:
    """A folder with the files that decide a vector, of its own bytes."""
    (root / name).mkdir()
    for file in ("model.safetensors", "config.json", "preprocessing.json", "tokenizer.json"):
        (root / name / file).write_text(f"{name} {file}")
    return root / name


@pytest.fixture
def chain(tmp_path: Path) -> dict[str, Path]:
    """pretrain -> two fine-tunes -> soup -> evaluation."""
    (tmp_path / "data/image").mkdir(parents=True)
    (tmp_path / "data/image/train.json").write_text("{}")
    shards = shards_node("tiny", data_state(tmp_path / "data", ["image", "absent"]))
    made = {name: folder(tmp_path, name) for name in ("pretrain", "first", "second", "soup")}
    write_model_lineage(made["pretrain"], [], shards, run_id="run-p", detail={"stage": "pretrain"})
    for name in ("first", "second"):
        before = [read_lineage(made["pretrain"])]
        write_model_lineage(made[name], before, shards, run_id=f"run-{name}", detail={"stage": "finetune"})
    write_model_lineage(made["soup"], [read_lineage(made[name]) for name in ("first", "second")], run_id="run-s")
    made["rows"] = tmp_path / "soup.jsonl"
    made["rows"].write_text('{"value": 1}\n')
    write_evaluation_lineage(made["rows"], made["soup"], detail={"split": "dev"})
    return made


def test_the_whole_chain_is_in_its_last_file_and_each_node_after_what_it_was_made_of(chain: dict[str, Path]) -> None:
    lineage = read_lineage(chain["rows"].with_suffix(".lineage.json"))
    assert [node.name for node in lineage.values()] == ["tiny", "pretrain", "first", "second", "soup", "soup"]
    seen: set[str] = set()
    for node in lineage.values():
        assert set(node.made_of) <= seen
        seen.add(node.id)
    soup, evaluation = list(lineage.values())[-2:]
    assert [lineage[key].name for key in soup.made_of] == ["first", "second"]
    assert (evaluation.kind, evaluation.made_of, evaluation.run_id) == ("evaluation", (soup.id,), "run-s")
    (shards,) = [node for node in lineage.values() if node.kind == "shards"]
    assert list(shards.detail["indexes"]) == ["image/train"]


def test_it_is_carried_with_its_folder(chain: dict[str, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    chain["soup"].rename(elsewhere)
    assert len(read_lineage(elsewhere)) == 5


def test_another_models_bytes_are_noticed_and_an_older_folder_has_no_past(chain: dict[str, Path]) -> None:
    (chain["soup"] / "model.safetensors").write_text("other weights")
    with pytest.raises(DataError, match=r"soup/lineage\.json: tells of another model"):
        read_lineage(chain["soup"])
    (chain["soup"] / "lineage.json").unlink()
    (alone,) = read_lineage(chain["soup"]).values()
    assert (alone.name, alone.made_of) == ("soup", ())
    for text in ("[", "[{}]", "[]"):
        (chain["soup"] / "lineage.json").write_text(text)
        with pytest.raises(DataError, match=r"soup/lineage\.json: .*delete it"):
            read_lineage(chain["soup"])


def test_other_shards_are_another_node(tmp_path: Path) -> None:
    one, other = (
        shards_node("tiny", {"a/train": "1", "b/train": "2"}),
        shards_node("tiny", {"a/train": "1", "b/train": "3"}),
    )
    assert one.id != other.id and one.id == shards_node("tiny", {"b/train": "2", "a/train": "1"}).id


def test_the_tree_names_every_ancestor_and_opens_a_shared_one_once(chain: dict[str, Path], capsys) -> None:
    console = Console(width=200, record=True)
    console.print(tree(read_lineage(chain["soup"])))
    text = console.export_text()
    assert text.index("model soup") < text.index("model first") < text.index("model pretrain")
    assert text.count("pretrain  pretrain") == 2 and text.count("see above") == 1
    assert main(["--lineage", str(chain["soup"])]) == 0
    assert "run-first" in capsys.readouterr().out


def test_wrong_parents_are_refused(chain: dict[str, Path]) -> None:
    from commonspace.tracking.lineage import Node, extended

    with pytest.raises(DataError, match="was made of x"):
        extended([read_lineage(chain["soup"])], Node("y", "model", "odd", ("x",)))
    assert json.loads((chain["soup"] / "lineage.json").read_text())[-1]["id"] == last(read_lineage(chain["soup"])).id
