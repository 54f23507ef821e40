"""What a model's card says it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

from commonspace import Content, Embedder
from commonspace.config_values import resolved
from commonspace.configuration import compose
from commonspace.data.sample import Record, Variant
from commonspace.stages.describe import model_card
from commonspace.stages.sources import Source, card_sources, drawn_sources, merged, sources_section
from tests.evaluation.made import write
from tests.models.tiny import tiny_embedder


def rows(task: str, **sources: int) -> list[Record]:
    return [
        Record(f"{name}-{i}", task, name, f"{name} {i}", (Variant(Content(f"q {name} {i}")),), (Variant(Content("a")),))
        for name, count in sources.items()
        for i in range(count)
    ]


def tier(folder: Path) -> Path:
    write(folder, "code", rows("code", made=3), "train")
    write(folder, "recipe", rows("recipe", made=2, other=1), "train")
    write(folder, "recipe", rows("recipe", other=4), "heldout")
    (folder / "manifest.json").write_text(json.dumps({"sources": {"made": {"provenance": "made here"}}}))
    return folder


def test_training_rows_of_the_tasks_are_counted_by_source(tmp_path: Path) -> None:
    folder = tier(tmp_path)
    assert drawn_sources(folder, ["code", "recipe", "speech"]) == {
        "made": Source("CC0-1.0", 5, "made here"),
        "other": Source("CC0-1.0", 1, ""),
    }
    assert set(drawn_sources(folder, ["code"])) == {"made"}


def test_a_card_carries_its_own_sources_and_those_of_the_model_it_started_from(tmp_path: Path) -> None:
    tier(tmp_path / "data/mini")
    (tmp_path / "models/first").mkdir(parents=True)
    before = {"made": Source("CC0-1.0", 9, "made | elsewhere"), "gimp": Source("GFDL-1.2 or later", 3312, "the manual")}
    (tmp_path / "models/first/README.md").write_text("# first\n\n" + sources_section(before))
    config = compose("train", [f"paths.data={tmp_path}/data", f"init={tmp_path}/models/first"])
    plain = resolved(config)
    (tmp_path / "README.md").write_text(model_card(plain, "run-1", {"mean": 0.5}))
    assert card_sources(tmp_path) == {
        "gimp": before["gimp"],
        "made": before["made"],
        "other": Source("CC0-1.0", 1, ""),
    }
    assert "| gimp | GFDL-1.2 or later | 3,312 | the manual |" in (tmp_path / "README.md").read_text()


def test_a_folder_without_a_table_adds_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# someone else's\n\n| source | rows |\n| -- | -- |\n| a | 1 |\n")
    assert card_sources(tmp_path) == card_sources(tmp_path / "absent") == merged([{}]) == {}
    assert "No sources are known." in sources_section({})


def test_pretrained_parts_are_those_of_the_model(tmp_path: Path) -> None:
    embedder = tiny_embedder()
    embedder.weights, embedder.backbone.vision.weights = "Qwen/Qwen3-0.6B", "efficientnet-lite0"
    embedder.save(tmp_path / "first")
    card = (tmp_path / "first/README.md").read_text()
    named = "Pretrained parts: Qwen/Qwen3-0.6B (licence: see Qwen/Qwen3-0.6B), efficientnet-lite0 (Apache-2.0).\n"
    assert card.endswith(named) and "whisper" not in card and "e5" not in card
    sources = card_sources(tmp_path / "first")
    assert sources["efficientnet-lite0"] == Source("Apache-2.0", 0) and len(sources) == 2
    section = sources_section(merged([sources, {"code": Source("BSD-3-Clause", 3, "here")}]))
    assert section.endswith(named) and "| code | BSD" in section and "| Qwen" not in section
    Embedder.load(tmp_path / "first").save(tmp_path / "second", card=f"# second\n\n{section}")
    assert (tmp_path / "second/README.md").read_text() == f"# second\n\n{section}", "named once"
    assert card_sources(tmp_path / "second") == {**sources, "code": Source("BSD-3-Clause", 3, "here")}
