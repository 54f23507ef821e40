"""`commonspace evaluate mteb`: shares, resuming, prefixes apart, rivals, scores in the run that trained the model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from omegaconf import OmegaConf
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from commonspace.configuration import compose
from commonspace.errors import ConfigError, DataError
from commonspace.evaluation.mteb import run
from commonspace.evaluation.mteb.cache import shared_cache
from commonspace.evaluation.mteb.heldout import heldout_tasks
from commonspace.evaluation.mteb.suites import choose, share_of
from commonspace.evaluation.mteb.summary import check_published, write_side_by_side
from commonspace.evaluation.suite import build_suite
from commonspace.models.embedder import Embedder
from commonspace.tracking.lineage import last, read_lineage
from commonspace.tracking.reader import read_runs
from commonspace.tracking.trained_run import run_folder
from tests.models.tiny import tiny_embedder, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random tiny model, trained by the run tiny-1 of RUNS/mini/taught."""
    tiny_embedder().save(tmp_path / "model", training={"stage": "finetune", "seed": 3, "run_id": "tiny-1"})
    trained = tmp_path / "runs/mini/taught"
    trained.mkdir(parents=True)
    identity = {"run_id": "tiny-1", "config_hash": "0" * 16, "job": "1", "created": 0.0}
    (trained / "identity-0.json").write_text(json.dumps(identity))
    return tmp_path / "model"


def evaluated(folder: Path, data: Path, *options: str) -> None:
    """Run the command on the small tier, features and W&B off unless asked."""
    given = [
        f"embedder={folder}", "suite=heldout", f"paths.runs={folder.parent / 'runs'}", f"paths.data={data}",
        "data.features=false", "wandb=none", *options,
    ]  # fmt: skip
    run.main(compose("evaluate_mteb", given))


def summary(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "heldout.summary.json").read_text())


def test_shares_make_the_whole_and_nothing_is_made_twice(
    folder: Path, suite_data: Path, mteb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = folder.parent / "runs/mini/taught/mteb"
    only = "data.tasks=[image_caption,summary]"
    evaluated(folder, suite_data, only, "shares=2", "share=1")
    first = summary(output)["benchmarks"]["heldout"]
    evaluated(folder, suite_data, only, "shares=2", "share=0", "wandb=offline")
    whole = summary(output)["benchmarks"]["heldout"]
    assert (first["tasks"], whole["tasks"], whole["tasks_of_benchmark"]) == (1, 3, 3)
    assert whole["means"]["Mean(Task)"] == pytest.approx(np.mean([row["score"] for row in whole["scores"]]), abs=1e-6)
    assert set(whole["means"]) == {"Mean(Task)", "Mean(TaskType)", "Any2AnyRetrieval", "Retrieval"}
    wandb.teardown()  # only then is a log on disk to its last record
    (logged,) = read_runs(output.parent)
    kept = {name for name in logged.history if name.startswith("mteb/")}
    assert logged.run_id == "tiny-1" and len(kept) == 2, "what this share did, in the run that trained the model"
    told = read_lineage(output / "heldout.summary.lineage.json")
    assert last(told).kind == "evaluation" and set(told) - {last(told).id} == set(read_lineage(folder))
    monkeypatch.setattr(
        Embedder, "embed", lambda *given, **options: pytest.fail("a result that is there was made again")
    )
    evaluated(folder, suite_data, only)
    assert summary(output)["benchmarks"]["heldout"] == whole


def test_a_score_of_other_data_is_not_this_ones(
    folder: Path, suite_data: Path, mteb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer records, then all of them, then none embedded: a score is of the queries and items beside it."""

    def measured(output: str, *more: str) -> dict[str, Any]:
        evaluated(folder, suite_data, "data.tasks=[summary]", f"output={folder.parent / output}", *more)
        return summary(folder.parent / output)

    few, both = measured("out", "data.limit=3"), measured("out")
    (row,), (alone,) = (one["benchmarks"]["heldout"]["scores"] for one in (both, measured("alone")))
    assert few["benchmarks"]["heldout"]["scores"][0]["queries"] == 3 and row == alone and row["queries"] == 12
    kept = folder.parent / f"out/results/commonspace__model/{both['revision']}/{row['task']}.json"
    (task,) = heldout_tasks(build_suite(suite_data / "mini", tasks=["summary"]))[0]
    assert json.loads(kept.read_text())["dataset_revision"] == task.metadata.revision
    monkeypatch.setattr(Embedder, "embed", lambda *given, **options: pytest.fail("made again"))
    assert measured("out") == both


def test_prefixes_are_kept_apart(folder: Path, suite_data: Path, mteb: Any) -> None:
    output = folder.parent / "out"
    evaluated(folder, suite_data, "data.tasks=[summary,image_caption]", "tasks=[heldout-summary-text-to-text]",
              f"output={output}", "prefixes=best")  # fmt: skip
    found = summary(output)
    (row,) = found["benchmarks"]["heldout"]["scores"]
    assert found["prefixes"][0] == "type" and len(found["prefixes"]) == 9
    results = {path.parent.name: path for path in output.rglob("heldout-summary-text-to-text.json")}
    assert len(results) == 9
    scores = {name: json.loads(path.read_text())["scores"]["test"][0]["main_score"] for name, path in results.items()}
    assert row["best"] == pytest.approx(max(scores.values()), abs=1e-5) and row["best"] >= row["score"]
    assert len(set(scores.values())) > 1, "the prefix reached the model"
    alone = {name: value for name, value in scores.items() if not name.startswith("prefixes")}
    assert [row["score"]] == pytest.approx(list(alone.values()), abs=1e-5)
    assert "| best prefix a task |" in (output / "heldout.summary.md").read_text()


def test_a_rival_in_a_folder_is_measured_by_the_same_code(tmp_path: Path, suite_data: Path, mteb: Any) -> None:
    """Its score is what sentence-transformers' own vectors give, each side after the text it wants."""
    from sentence_transformers import SentenceTransformer

    rival(tmp_path / "bert")
    evaluated(tmp_path / "bert", suite_data, "data.tasks=[summary,image_caption]",
              "rival_prompts={query: 'query: ', document: 'passage: '}")  # fmt: skip
    found = summary(tmp_path / "runs/mteb/local__bert")
    (row,) = found["benchmarks"]["heldout"]["scores"]
    assert "needs image" in found["left_out"]["heldout-image_caption-text-to-image"]
    (task,) = build_suite(suite_data / "mini", tasks=["summary"]).tasks
    model = SentenceTransformer(str(tmp_path / "bert"), device="cpu")
    sides = ([part.parts[0].text for part in side] for side in (task.queries, task.gallery))
    query_QE, item_GE = (
        model.encode([start + text for text in texts], normalize_embeddings=True)
        for start, texts in zip(("query: ", "passage: "), sides, strict=True)
    )
    ranks = [
        1 + int((scores > scores[task.relevance.of(q)].max()).sum()) for q, scores in enumerate(query_QE @ item_GE.T)
    ]
    assert row["score"] == pytest.approx(np.mean([1 / rank if rank <= 10 else 0 for rank in ranks]), abs=1e-5)


def test_a_packaged_rival_is_found_by_its_name(tmp_path: Path, suite_data: Path, mteb: Any, monkeypatch) -> None:
    rival(tmp_path / "bert")
    monkeypatch.setattr(run, "resolve_weights", lambda name, cache: {"all-MiniLM-L6-v2": tmp_path / "bert"}[name])
    evaluated(Path("all-MiniLM-L6-v2"), suite_data, "data.tasks=[summary]", f"paths.runs={tmp_path}", "name=minilm")
    assert summary(tmp_path / "mteb/local__minilm")["model"] == "local/minilm"


def test_published_rows_stand_beside_the_measured_one_on_screen(
    folder: Path, suite_data: Path, mteb: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose("evaluate_mteb", [f"embedder={folder}", "suite=heldout", "data.features=false", "wandb=none",
             f"paths.data={suite_data}", "data.tasks=[summary]", f"output={folder.parent / 'out'}"])  # fmt: skip
    values = {"Mean(Task)": 71.0, "heldout-summary-text-to-text": 72.0}
    config.published = [{"benchmark": "heldout", "model": "peer", "values": values}]
    run.main(config)
    printed = capsys.readouterr().out
    (row,) = summary(folder.parent / "out")["benchmarks"]["heldout"]["scores"]
    assert f"| {row['task']} | mrr_at_10 | 12 | 12 | {100 * row['score']:.2f} | 72.00 |" in printed.splitlines()
    assert (folder.parent / "out/heldout.summary.md").read_text() in printed


def test_models_of_one_suite_stand_side_by_side(tmp_path: Path) -> None:
    """What one model cannot read is blank, and no part of the mean that compares them."""
    about = {"command": "commonspace evaluate mteb", "mteb": "2", "commit": "abc", "suite": "heldout", "left_out": {}}
    scores = {"ours": {"a": 0.5, "b": 0.25, "c": 0.9}, "peer": {"a": 0.4, "b": 0.75}}
    for name, found in scores.items():
        rows = [{"task": task, "metric": "mrr_at_10", "score": value} for task, value in found.items()]
        kept = {**about, "model": name, "benchmarks": {"heldout": {"scores": rows}}}
        assert write_side_by_side(tmp_path, "heldout") is None, "one alone is no comparison"
        (tmp_path / name).mkdir()
        (tmp_path / name / "heldout.summary.json").write_text(json.dumps(kept))
    page = write_side_by_side(tmp_path, "heldout").read_text()
    assert "| task | metric | queries | pool | ours | peer |" in page
    assert "| a | mrr_at_10 |  |  | **50.00** | 40.00 |" in page
    assert "| c | mrr_at_10 |  |  | **90.00** |  |" in page
    assert "| mean of the 2 that all have |  |  |  | 37.50 | **57.50** |" in page


def test_a_task_that_fails_is_named_and_the_others_are_kept(
    folder: Path, suite_data: Path, mteb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = Embedder.embed

    def falls(self: Embedder, contents: Any, **options: Any) -> Any:
        if any(not content.is_text for content in contents):
            raise RuntimeError("no picture today")
        return embed(self, contents, **options)

    monkeypatch.setattr(Embedder, "embed", falls)
    with pytest.raises(DataError, match="2 of 3 tasks failed, the others are kept: .*no picture today"):
        evaluated(folder, suite_data, "data.tasks=[image_caption,summary]", f"output={folder.parent / 'out'}")
    assert summary(folder.parent / "out")["benchmarks"]["heldout"]["tasks"] == 1


def test_benchmarks_are_mtebs_and_shares_are_disjoint(mteb: Any) -> None:
    chosen = choose({"benchmarks": ["MTEB(Multilingual, v1)", "MTEB(Multilingual, v2)"]}, ["text"])
    assert {name: len(tasks) for name, tasks in chosen.benchmarks.items()} == {
        "MTEB(Multilingual, v1)": 132, "MTEB(Multilingual, v2)": 131
    }  # fmt: skip
    names = [{task.metadata.name for task in share_of(chosen.tasks, share, 5)} for share in range(5)]
    assert sum(map(len, names)) == len(set().union(*names)) == 132
    audio = choose({"benchmarks": ["MAEB(v1)"]}, ["text", "image"])
    assert not audio.tasks and set(audio.left_out.values()) == {"needs audio"}


@pytest.mark.parametrize("suite", ["multilingual", "code", "mieb", "maeb", "mveb", "vidore"])
def test_every_suite_names_benchmarks_that_mteb_has(suite: str, mteb: Any) -> None:
    options = compose("evaluate_mteb", ["embedder=x", f"suite={suite}"]).suite
    assert choose(options, ["text", "image", "audio", "video"]).tasks and options.name == suite


def test_what_does_not_exist_is_refused(folder: Path, suite_data: Path, mteb: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="suite.benchmarks: 'MTEB.Cod, v1.' not found. Did you mean: MTEB.Code, v1."):
        choose({"benchmarks": ["MTEB(Cod, v1)"]}, ["text"])
    with pytest.raises(ConfigError, match="tasks: NoSuch is no task of CoIR"):
        choose({"benchmarks": ["CoIR"]}, ["text"], names=["NoSuch"])
    with pytest.raises(ConfigError, match="wandb: 'onlin' is none of offline, online, none"):
        evaluated(folder, suite_data, "wandb=onlin")
    with pytest.raises(ConfigError, match="share=2: shares=2 are numbered from 0 to 1"):
        share_of([], 2, 2)
    with pytest.raises(ConfigError, match="embedder=models/none: no such folder, and mteb knows no model"):
        evaluated(Path("models/none"), suite_data, f"output={tmp_path / 'out'}")
    with pytest.raises(ConfigError, match="prefixes, dim: of our model folders alone"):
        evaluated(rival(tmp_path / "bert"), suite_data, "prefixes=none", "dim=8")
    with pytest.raises(ConfigError, match="rival_prompts: .* is a model folder of ours"):
        evaluated(folder, suite_data, "rival_prompts={query: 'query: '}")
    with pytest.raises(ConfigError, match="data.split, data.limit: of suite=heldout alone"):
        evaluated(folder, suite_data, "suite=code", "data.split=dev", "data.limit=3")


@pytest.mark.parametrize("name, rows", [("table2", 0), ("table5", 3), ("table7", 132), ("table8", 12)])
def test_published_columns_are_of_rows_that_there_are(name: str, rows: int, mteb: Any) -> None:
    """Every value stands beside a task or mean of its benchmark, and printed means are those of the printed tasks."""
    config = compose("evaluate_mteb", ["embedder=x", f"experiment=paper/{name}"])
    plain = OmegaConf.to_container(config)
    chosen = choose(plain["suite"], ["text"], names=plain["tasks"] or ())
    check_published(plain["published"], chosen)
    for column in plain["published"]:
        tasks = chosen.benchmarks[column["benchmark"]]
        names = {task.metadata.name for task in tasks}
        types = {task.metadata.type for task in tasks}
        values = dict(column["values"])
        means = {key: values.pop(key) for key in ("Mean(Task)", "Mean(TaskType)", *types) if key in values}
        assert set(values) <= names and len(values) == rows and means
        if set(values) == names:
            assert np.mean(list(values.values())) == pytest.approx(means["Mean(Task)"], abs=0.06)
    with pytest.raises(ConfigError, match="published.0.: the suite has no MTEB.Code, v2."):
        check_published([{**plain["published"][0], "benchmark": "MTEB(Code, v2)"}], chosen)


def test_jobs_wait_for_one_another(tmp_path: Path, mteb: Any) -> None:
    """A second process gets the cache when the first has left it, and one process may enter twice."""
    cache = shared_cache(tmp_path)
    code = (
        "import fcntl, sys\n"
        "lock = open(sys.argv[1], 'w')\n"
        "try: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('waits')\n"
        "else: print('enters')"
    )
    tries = lambda: subprocess.run([sys.executable, "-c", code, tmp_path / ".lock"], capture_output=True, text=True)  # noqa: E731
    with cache.alone():
        assert cache.load_task_result("STS12", "a/b", "1") is None
        assert tries().stdout == "waits\n"
    assert tries().stdout == "enters\n"


def test_a_run_is_found_by_its_id(folder: Path) -> None:
    runs = folder.parent / "runs"
    (runs / "mini/taught/identity-1.json").write_text("{")
    assert run_folder(runs, "tiny-1") == runs / "mini/taught"
    assert run_folder(runs, "tiny-2") is None and run_folder(runs, None) is None


def rival(folder: Path) -> Path:
    """A random small BERT as Hugging Face saves it."""
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=tokenizer.get_vocab_size(), **sizes)).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return folder
