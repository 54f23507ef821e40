"""`commonspace mine` with a small random model: directions, teachers, several processes, what fine-tuning reads."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from commonspace import Content
from commonspace.data.negatives import read_negatives
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.mining import run as run_module
from commonspace.mining.run import main, match_of, mine_run, own_device, prompt_of, train_readers
from commonspace.models.embedder import Embedder
from tests.evaluation.made import record, write
from tests.models.tiny import tiny_embedder
from tests.stages.training import settings, write_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of pictures with captions and of texts, and two models."""
    root = tmp_path_factory.mktemp("mine")
    write_pairs(root / "data" / "own", train=24, broken=(5,))
    for seed, name in ((0, "first"), (1, "second")):
        tiny_embedder(seed=seed).save(root / "models" / name)
    return root


def config(folder: Path, *words: str):
    fixed = ["data.tier=own", "data.features=false", f"embedder={folder}/models/first", "count=2", "chunk=9"]
    return settings(folder, *fixed, *words, root="mine")


def test_the_command_mines_every_task_and_both_directions(folder: Path) -> None:
    main(config(folder, "directions=[forward,reverse]", "margin=null"))
    lists = folder / "data" / "negatives" / "own"
    assert sorted(path.name for path in lists.glob("*.parquet")) == [
        "image_caption.parquet", "image_caption.reverse.parquet", "summary.parquet", "summary.reverse.parquet",
    ]  # fmt: skip
    reader = ShardReader(folder / "data" / "own" / "image_caption", "train")
    model = Embedder.load(folder / "models" / "first")
    keys = [key for key in reader.index.column("key").to_pylist() if key != "i5"]
    records = [reader.read(reader.row_of(key)) for key in keys]
    query = model.embed([one.queries[0].content for one in records])
    target = model.embed([one.positives[0].content for one in records])
    for name, scores in (("image_caption", query @ target.T), ("image_caption.reverse", target @ query.T)):
        np.fill_diagonal(scores, -2)
        table = pq.read_table(lists / f"{name}.parquet")
        assert table["key"].to_pylist() == keys
        for row, found in enumerate(table["scores"].to_pylist()):
            assert np.allclose(found, np.sort(scores[row])[::-1][:2], atol=1e-4)
    numbers = json.loads((lists / "report" / "image_caption.json").read_text())
    assert numbers["queries"] == 23 and numbers["skipped"][0].startswith("i5: ") and numbers["search"] == "exact"
    assert (lists / "report" / "image_caption.reverse.examples.png").exists()
    assert len(read_negatives(lists / "image_caption.parquet", reader)) == 24


def test_teachers_of_the_config_judge(folder: Path) -> None:
    """Another of our models, and scores of a file, against what they are."""
    scores = folder / "scores"
    scores.mkdir()
    reader = ShardReader(folder / "data" / "own" / "summary", "train")
    keys, rng = reader.index.column("key").to_pylist(), np.random.default_rng(0)
    lines = [f"{a},{b},{rng.random():.4f}" for a in keys for b in keys]
    (scores / "summary.csv").write_text("\n".join(["query,target,score", *lines]))
    teachers = f"teachers=[{{kind:embedder,model:{folder}/models/second}},{{kind:scores,file:'{scores}/{{task}}.csv'}}]"
    words = [teachers, "data.tasks=[summary]", "selection=lowest", "margin=null", "depth=8", f"output={folder}/judged"]
    main(config(folder, *words))
    numbers = json.loads((folder / "judged" / "report" / "summary.json").read_text())
    assert list(numbers["teachers"]) == [f"embedder {folder}/models/second", f"scores {scores}/{{task}}.csv"]
    told = {tuple(line.split(",")[:2]): float(line.split(",")[2]) for line in lines}
    second = Embedder.load(folder / "models" / "second")
    records = list(reader)
    cosines = (
        second.embed([one.queries[0].content for one in records])
        @ second.embed([one.positives[0].content for one in records]).T
    )
    first = Embedder.load(folder / "models" / "first")
    near = (
        first.embed([one.queries[0].content for one in records])
        @ first.embed([one.positives[0].content for one in records]).T
    )
    np.fill_diagonal(near, -2)
    table = pq.read_table(folder / "judged" / "summary.parquet")
    for row, found in enumerate(table["negatives"].to_pylist()):
        wrong = np.argsort(-near[row])[:8]
        by = [[cosines[row, k] for k in wrong], [told[keys[row], keys[k]] for k in wrong]]
        fused = [sum(1 / (61 + sum(o > one[n] for o in one)) for one in by) for n in range(8)]
        order = sorted(range(8), key=lambda n: (-fused[n], n))[::-1]
        assert found == [keys[wrong[n]] for n in order[:2]]


def test_prefixes_reach_queries_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    plain = Embedder.embed

    def embed(self, contents, **options):
        asked.append((options["task"], options["role"]))
        return plain(self, contents, **options)

    monkeypatch.setattr(Embedder, "embed", embed)
    main(
        config(
            folder, "prefixes=true", "data.tasks=[summary]", f"output={folder}/prefixed", f"work={folder}/prefixed-work"
        )
    )
    assert set(asked) == {("search result", "query"), (None, None)} and len(asked) == 6


def test_processes_that_start_together_share_the_work(folder: Path) -> None:
    """What two write is what one writes, and no content is embedded by both."""
    fork = multiprocessing.get_context("fork")
    counts, plain = fork.SimpleQueue(), Embedder.embed

    def share() -> None:
        embedded = 0

        def embed(self, contents, **options):
            nonlocal embedded
            embedded += len(contents)
            return plain(self, contents, **options)

        Embedder.embed = embed
        main(config(folder, "data.tasks=[summary]", f"output={folder}/shared", f"work={folder}/shared-work"))
        counts.put(embedded)

    both = [fork.Process(target=share) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
    assert [one.exitcode for one in both] == [0, 0] and counts.get() + counts.get() == 48
    main(config(folder, "data.tasks=[summary]", f"output={folder}/alone", f"work={folder}/alone-work"))
    for name in ("summary.parquet", "report/summary.json", "report/summary.html"):
        assert (folder / "shared" / name).read_bytes() == (folder / "alone" / name).read_bytes()
    assert not list((folder / "shared").rglob("*.partial"))


def test_a_precision_is_agreed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter(["bf16-mixed", "32-true"])
    monkeypatch.setattr(run_module, "resolve_precision", lambda asked: next(found) if asked == "auto" else asked)
    reader = ShardReader(folder / "data" / "own" / "summary", "train")
    agreed = [run_module._agreed_precision(folder / "agreed", "auto", reader, "cpu") for _ in range(2)]
    assert agreed == ["bf16-mixed"] * 2
    assert run_module._agreed_precision(folder / "agreed", "32-true", reader, "cpu") == "32-true"


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "best_device", lambda: "cuda")
    monkeypatch.setattr(run_module.torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("SLURM_LOCALID", "6")
    assert own_device() == "cuda:2"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device() == "cuda:3"


def test_tasks_are_matched_and_asked_as_evaluation_does() -> None:
    assert (match_of("code"), match_of("image_caption"), match_of("stamp_language"), match_of("mine")) == (
        "pair", "concept", "relation", "concept",
    )  # fmt: skip
    assert prompt_of("code") == "code retrieval" and prompt_of("speech") is None


def test_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no train split"):
        train_readers(tmp_path, None)
    with pytest.raises(DataError, match="no such split"):
        train_readers(tmp_path, ["image_caption"])
    pairs = [record(f"s{n}", "summary", f"c{n}", Content("a red fox"), ("en", Content("fox"))) for n in range(3)]
    write(tmp_path, "summary", pairs, "train")
    numbers = mine_run(folder / "models" / "first", tmp_path, tmp_path / "out", tmp_path / "work", progress=False)
    assert numbers["summary"]["kept"] == 0  # all say the same
