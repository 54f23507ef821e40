"""The loader: exact resume, equal for any number of workers and ranks, bad samples named and replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import pytorch_lightning as pl
import torch

from commonspace.data.batch import MIXED, Batch, pack, unpack
from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.data.shards import ShardReader
from commonspace.data.storage import RemoteFolder
from commonspace.errors import ConfigError, DataError, StorageError
from commonspace.processing.pieces import Piece, Pieces
from tests.negatives import write_negatives

TASKS = {
    "image_caption": {"batch_size": 8, "rate": 2.0, "reverse": True},
    "summary": {"batch_size": 4, "rate": 1.0, "prompt": "search result"},
}
STEPS = 24


def make(root: Path, processor, **options) -> CommonspaceDataModule:
    values = {"seed": 3, "steps": STEPS, "bucket": 2, "prefix_dropout": 0.3, **options}
    return CommonspaceDataModule(root, values.pop("tasks", TASKS), processor, **values)


def told(batch: Batch) -> tuple:
    """Everything a step sees: keys, ids and every value of every piece."""
    contents = [*batch.query, *batch.positive, *(c for row in batch.negatives for c in row)]
    values = [(p.kind, p.tokens, tuple(p.value.shape), p.value.flatten().tolist()) for c in contents for p in c.pieces]
    ids = (batch.query_ids.tolist(), batch.positive_ids.tolist())
    return batch.step, batch.task, batch.reverse, batch.sources, batch.skipped, ids, values, batch.seed, batch.parts


@pytest.fixture
def whole(two_tasks: Path, processor) -> list[tuple]:
    return [told(batch) for batch in make(two_tasks, processor).loader()]


def test_batches_do_not_depend_on_workers(two_tasks, processor, whole):
    assert len(whole) == STEPS
    assert [told(batch) for batch in make(two_tasks, processor, workers=2).loader()] == whole


@pytest.mark.parametrize("before, after", [(0, 0), (2, 2), (2, 0), (0, 2)])
def test_a_stopped_loader_goes_on_with_the_very_next_batch(two_tasks, processor, whole, before, after):
    loader = make(two_tasks, processor, workers=before).loader()
    iterator = iter(loader)
    seen = [told(next(iterator)) for _ in range(9)]
    state = loader.state_dict()
    del iterator
    again = make(two_tasks, processor, workers=after)
    again.load_state_dict(state)
    assert seen + [told(batch) for batch in again.loader()] == whole


@pytest.mark.parametrize("memory, again", [(1, False), (0, True)])
def test_what_is_kept_in_memory_is_read_once_and_changes_nothing(two_tasks, processor, monkeypatch, memory, again):
    tasks = {"image_caption": {"batch_size": 8, "rate": 1.0}}
    expected = [told(batch) for batch in make(two_tasks, processor, tasks=tasks).loader()]
    module = make(two_tasks, processor, tasks=tasks, memory=memory)
    module.setup()
    plan = next(iter(module.loader().mixture))
    told(module.dataset.batch(plan))
    calls = []
    read = ShardReader.read
    monkeypatch.setattr(ShardReader, "read", lambda reader, row: calls.append(row) or read(reader, row))
    for _ in range(16):
        module.dataset.batch(plan)
    assert bool(calls) == again
    assert [told(batch) for batch in module.loader()] == expected


def test_two_ranks_make_the_global_batch_of_one(two_tasks, processor, whole):
    ranks = [list(make(two_tasks, processor).loader(rank, 2)) for rank in (0, 1)]
    for (step, task, _, sources, _, ids, *_), one, two in zip(whole, *ranks, strict=True):
        assert (one.step, one.task) == (two.step, two.task) == (step, task)
        assert one.sources + two.sources == sources
        assert torch.cat([one.query_ids, two.query_ids]).tolist() == ids[0]


def test_records_of_a_concept_meet_where_they_are_not_spread(tmp_path, make_shards, make_record, processor):
    """Ten concepts of six rows in batches of eight: apart where they are spread, together where not."""
    make_shards([make_record(row, concept=f"thing {row % 10}") for row in range(60)])

    def repeats(**options) -> int:
        batches = make(tmp_path, processor, tasks={"image_caption": TASKS["image_caption"]}, **options).loader()
        named = [[int(source.rpartition(":r")[2]) % 10 for source in batch.sources] for batch in batches]
        return sum(len(batch) - len(set(batch)) for batch in named)

    assert repeats() == 0 < repeats(spread_concepts=False)


def test_resume_is_refused_when_the_mixture_changed(two_tasks, processor):
    state = make(two_tasks, processor).loader().state_dict()
    changed = make(two_tasks, processor, tasks={**TASKS, "summary": {"batch_size": 2, "rate": 1.0}})
    changed.load_state_dict(state)
    with pytest.raises(ConfigError, match=r"tasks\.summary .*batches of 4.*batches of 2"):
        changed.loader()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"canonical": 0.6}, r"tasks\.image_caption \(was .*canonical=0\.5.*, is .*canonical=0\.6"),
        ({"skip_budget": 8}, r"skip_budget \(was 16, is 8\)"),
        ({"negative_count": 2}, "negatives=2"),
        ({"seed": 4}, r"seed \(was 3, is 4\)"),
        ({"sub_batches": 2}, r"sub_batches \(was None, is 2\)"),
    ],
)
def test_resume_is_refused_when_samples_would_be_drawn_otherwise(two_tasks, processor, changes, message):
    state = make(two_tasks, processor).loader().state_dict()
    changed = make(two_tasks, processor, **changes)
    changed.load_state_dict(state)
    with pytest.raises(ConfigError, match=message):
        changed.loader()


def test_resume_is_refused_with_other_mined_negatives(two_tasks, processor):
    reader, states = ShardReader(two_tasks / "image_caption", "train"), []
    for wrong in ({"r1": ["r20"]}, {"r1": ["r21"]}):
        write_negatives(two_tasks / "negatives/image_caption.parquet", reader, wrong, {"r1": [0.5]})
        module = make(two_tasks, processor, negatives=two_tasks / "negatives")
        states.append(module.loader().state_dict())
    module.load_state_dict(states[0])
    with pytest.raises(ConfigError, match="1 .* mined negatives"):
        module.loader()


def test_bad_samples_are_named_counted_and_replaced(two_tasks, processor):
    loader = make(two_tasks, processor).loader()
    batches = [batch for batch in loader if batch.task == "image_caption"]
    messages = [message for batch in batches for message in batch.skipped]
    assert messages and loader.skipped["image_caption"] == len(messages)
    assert all("image_caption/train-00000.tar:r" in m and "is not an image" in m for m in messages)
    assert {len(batch) for batch in batches} == {8}
    assert all(len(set(batch.sources)) == 8 for batch in batches)
    assert not any(source.endswith((":r7", ":r8")) for batch in batches for source in batch.sources)


def test_unreachable_storage_stops_the_run_and_skips_nothing(two_tasks, processor):
    loader = make(two_tasks, processor).loader()
    iterator = iter(loader)
    next(iterator)
    for tar in (two_tasks / "image_caption").glob("train-*.tar"):
        tar.unlink()
    loader.dataset.tasks["image_caption"].reader._tars._files.clear()  # what is open would go on
    before = loader.skipped["image_caption"]
    with pytest.raises(StorageError, match=r"image_caption/train-\d+\.tar: cannot be read"):
        list(iterator)
    assert loader.skipped["image_caption"] == before


@pytest.fixture
def far(two_tasks) -> Iterator[str]:
    """The shards behind a URL."""
    system = fsspec.filesystem("memory")
    for path in two_tasks.rglob("*.*"):
        system.pipe(f"/tier/{path.relative_to(two_tasks)}", path.read_bytes())
    yield "memory://tier"
    system.rm("/tier", recursive=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_that_lie_elsewhere_make_the_same_batches(far, processor, whole, workers):
    module = make(far, processor, workers=workers)
    assert [told(batch) for batch in module.loader()] == whole


def test_a_step_asks_far_storage_once(far, processor, monkeypatch):
    asked: list[int] = []
    read = RemoteFolder.read_ranges
    monkeypatch.setattr(RemoteFolder, "read_ranges", lambda folder, r: asked.append(len(r)) or read(folder, r))
    tasks = {"summary": {"batch_size": 4, "rate": 1.0}}
    list(make(far, processor, tasks=tasks, steps=5, prefix_dropout=None).loader())
    assert asked == [4] * 5


@pytest.mark.parametrize("workers", [0, 2])
def test_sub_batches_of_several_tasks_make_one_batch(two_tasks, processor, workers):
    batches = list(make(two_tasks, processor, sub_batches=2, workers=workers, steps=30).loader())
    mixed = [batch for batch in batches if len({part.task for part in batch.parts}) == 2]
    assert len(mixed) > 15
    for batch in batches:
        assert batch.task == MIXED and len(batch) == sum(part.rows for part in batch.parts)
        names = [part.task for part in batch.parts for _ in range(part.rows)]
        assert [source.split("/")[0] for source in batch.sources] == names
        assert {part.rows for part in batch.parts} <= {4, 2}
    alone = list(make(two_tasks, processor, sub_batches=2, steps=30).loader())
    assert [told(batch) for batch in alone] == [told(batch) for batch in batches]


def test_skipped_samples_of_sub_batches_are_counted_by_task(two_tasks, processor):
    loader = make(two_tasks, processor, sub_batches=2, steps=60).loader()
    messages = [message for batch in loader for message in batch.skipped]
    assert messages and loader.skipped == {"image_caption": len(messages), "summary": 0}


def test_sampling_by_size_leaves_rates_aside(two_tasks, processor):
    shares = {row["task"]: row["samples"] for row in make(two_tasks, processor, temperature=1.0, steps=400).schedule()}
    assert shares["image_caption"] / shares["summary"] == pytest.approx(60 / 40, rel=0.05)


def test_too_many_bad_samples_stop_training(two_tasks, processor):
    with pytest.raises(DataError, match=r"2 samples in a row .*r8.*skip_budget"):
        list(make(two_tasks, processor, skip_budget=2).loader())


def test_a_worker_that_fails_says_which_sample(two_tasks, processor):
    with pytest.raises(DataError, match="samples in a row"):
        list(make(two_tasks, processor, skip_budget=2, workers=1).loader())


def test_prefixes_go_on_text_queries_alone_and_drop_at_their_rate(two_tasks, processor):
    def texts(dropout):
        batches = [
            b for b in make(two_tasks, processor, steps=60, prefix_dropout=dropout).loader() if b.task == "summary"
        ]
        decoded = [bytes(c.pieces[0].value.tolist()).decode() for b in batches for c in b.query]
        assert not any("|" in bytes(c.pieces[0].value.tolist()).decode() for b in batches for c in b.positive)
        return [text.startswith("search result|query|title") for text in decoded]

    assert all(texts(0.0)) and not any(texts(1.0)) and not any(texts(None))
    some = texts(0.3)
    assert 0.5 < sum(some) / len(some) < 0.9


def test_a_prompt_on_media_is_refused(two_tasks, processor):
    tasks = {"image_caption": {"batch_size": 8, "rate": 1.0, "prompt": "search result"}}
    with pytest.raises(ConfigError, match="image_caption.*prompt"):
        make(two_tasks, processor, tasks=tasks).setup()
    tasks["image_caption"]["swap"] = True  # now a caption asks
    batch = next(iter(make(two_tasks, processor, tasks=tasks, prefix_dropout=0.0).loader()))
    assert all(bytes(c.pieces[0].value.tolist()).startswith(b"search result|query|") for c in batch.query)
    assert all("image" in content.modalities for content in batch.positive)


def test_negatives_come_in_the_language_of_the_positive(two_tasks, processor):
    reader = ShardReader(two_tasks / "image_caption", "train")
    wrong = {f"r{n}": [f"r{n + 20}", f"r{n + 21}"] for n in range(10, 20)}
    write_negatives(
        two_tasks / "negatives" / "image_caption.parquet", reader, wrong, {key: [0.5, 0.4] for key in wrong}
    )
    seen = 0
    for batch in make(two_tasks, processor, steps=60, negatives=two_tasks / "negatives").loader():
        for source, positive, negatives in zip(batch.sources, batch.positive, batch.negatives, strict=True):
            key = source.split(":")[1]
            assert len(negatives) == (1 if key in wrong else 0)
            for negative in negatives:
                seen += 1
                right, left = (bytes(c.pieces[0].value.tolist()).decode().split() for c in (positive, negative))
                assert f"r{left[1]}" in wrong[key] and left[-1] == right[-1]
    assert seen > 20


def test_negatives_asked_for_but_absent_raise(two_tasks, processor):
    with pytest.raises(DataError, match="commonspace mine"):
        make(two_tasks, processor, negatives=two_tasks / "nowhere").setup()


def test_a_token_budget_becomes_steps(two_tasks, processor):
    module = make(two_tasks, processor, steps=None, token_budget=20_000)
    module.setup()
    spent = sum(batch.tokens for batch in module.loader())
    assert spent == pytest.approx(20_000, rel=0.15)
    with pytest.raises(ConfigError, match="exactly one"):
        make(two_tasks, processor, token_budget=1)


def test_limit_and_rate_zero(two_tasks, processor):
    tasks = {**TASKS, "summary": {"batch_size": 4, "rate": 0.0}}
    batches = list(make(two_tasks, processor, tasks=tasks, limit=12).loader())
    assert {batch.task for batch in batches} == {"image_caption"}
    assert {int(s.split(":r")[1]) for b in batches for s in b.sources} <= set(range(12))


def test_packing_keeps_every_value(two_tasks, processor):
    batch = next(iter(make(two_tasks, processor).loader()))
    packed = pack(batch)
    assert len(packed.values) <= 2
    assert told(unpack(packed)) == told(batch)


def test_packing_keeps_marks_and_clips_of_backbones_with_their_own(two_tasks, processor):
    batch = next(iter(make(two_tasks, processor).loader()))
    clip = torch.arange(24, dtype=torch.uint8).reshape(2, 3, 2, 2)
    pieces = (
        Piece("mark", torch.tensor([7, 8]), 2), Piece("image", clip, 4, rows=(0, 4), step=0.5),
        Piece("mark", torch.tensor(3), 1), Piece("image", clip, 2, rows=(4, 6), step=0.5),
        Piece("image", clip[0], 6, grid=(2, 3)),
    )  # fmt: skip
    batch.query[0] = Pieces(pieces)
    kept = unpack(pack(batch)).query[0].pieces
    assert [(p.kind, p.tokens, p.rows, p.grid, p.step, p.value.tolist()) for p in kept] == [
        (p.kind, p.tokens, p.rows, p.grid, p.step, p.value.tolist()) for p in pieces
    ]
    assert kept[1].value is kept[3].value


class Counter(pl.LightningModule):
    """Notes what it is given; one parameter, so that there is something to save."""

    def __init__(self, stop: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple] = []
        self.stop = stop

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        if batch.step == self.stop:
            raise KeyboardInterrupt
        self.seen.append(told(batch))
        return self.weight.sum() * 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(root: Path, processor, folder: Path, stop: int | None = None, resume: Path | None = None, **options) -> Counter:
    model = Counter(stop)
    keep = pl.callbacks.ModelCheckpoint(folder, every_n_train_steps=5, save_top_k=-1, filename="{step}")
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=STEPS, callbacks=[keep], logger=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    try:
        trainer.fit(model, datamodule=make(root, processor, **options), ckpt_path=resume)
    except (KeyboardInterrupt, SystemExit):
        assert stop is not None
    return model


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_checkpoints_resume_on_the_next_batch(two_tasks, processor, whole, tmp_path, workers):
    fit(two_tasks, processor, tmp_path / "checkpoints", stop=13, workers=workers)
    path = tmp_path / "checkpoints" / "step=10.ckpt"
    saved = torch.load(path, weights_only=True)["CommonspaceDataModule"]
    assert saved["step"] == 10 and len(repr(saved)) < 100_000
    resumed = fit(two_tasks, processor, tmp_path / "again", resume=path, workers=workers)
    assert resumed.seen == whole[10:]


def test_a_batch_tells_how_long_it_was_waited_for(two_tasks, processor, monkeypatch):
    """The loader's own time counts; what happens between two batches does not."""
    loader = make(two_tasks, processor, steps=3).loader()
    slow = loader.dataset.batch
    monkeypatch.setattr(loader.dataset, "batch", lambda plan: time.sleep(0.2) or slow(plan))
    waits = []
    for batch in loader:
        waits.append(batch.waited)
        time.sleep(0.4)
    assert all(0.2 <= waited < 0.4 for waited in waits)


def test_few_records_make_a_smaller_batch_only_where_that_is_asked_for(two_tasks, processor):
    tasks = {"image_caption": {"batch_size": 100, "rate": 1.0}}
    with pytest.raises(ConfigError, match="60 records, too few for one batch of 100"):
        make(two_tasks, processor, tasks=tasks).setup()
    module = make(two_tasks, processor, tasks=tasks, shrink=True, steps=2)
    assert [len(batch) for batch in module.loader()] == [60, 60]
    assert module.shrunk == {"image_caption": (100, 60)}
    with pytest.raises(DataError, match="image_caption: 1 record to train on, and a batch needs a wrong target"):
        make(two_tasks, processor, tasks=tasks, shrink=True, limit=1).setup()


def test_a_positive_has_its_own_negatives_where_its_task_goes_both_ways(two_tasks, processor):
    """Queries of other records, by the list of the reverse; the draws of everything else are as without it."""
    folder = two_tasks / "negatives"
    for name in TASKS:
        reader = ShardReader(two_tasks / name, "train")
        keys = reader.index.column("key").to_pylist()
        lists = {keys[n]: [keys[n + 20]] for n in range(10, 20)}
        for path in (folder / f"{name}.parquet", folder / f"{name}.reverse.parquet"):
            write_negatives(path, reader, lists, {key: [0.5] for key in lists})
    plain = list(make(two_tasks, processor, negatives=folder).loader())
    both = list(make(two_tasks, processor, negatives=folder, reverse_negatives=True).loader())
    assert [told(batch) for batch in plain] == [told(batch) for batch in both]
    assert not any(batch.reverse_negatives for batch in plain)
    reader, seen = ShardReader(two_tasks / "image_caption", "train"), 0
    for batch in both:
        if batch.task == "summary":  # goes one way
            assert batch.reverse_negatives == []
            continue
        for source, row in zip(batch.sources, batch.reverse_negative_ids, strict=True):
            number = reader.row_of(source.split(":")[1])
            wanted = [reader.read(number + 20).queries[0].content.digest()] if 10 <= number < 20 else []
            assert row == wanted
            seen += len(row)
        assert [len(row) for row in batch.reverse_negatives] == [len(row) for row in batch.reverse_negative_ids]
    assert seen > 10

    state = make(two_tasks, processor, negatives=folder, reverse_negatives=True).loader().state_dict()
    changed = make(two_tasks, processor, negatives=folder)
    changed.load_state_dict(state)
    with pytest.raises(ConfigError, match="of the reverse"):
        changed.loader()
    (folder / "image_caption.reverse.parquet").unlink()
    with pytest.raises(DataError, match=r"TASK\.reverse\.parquet; run `commonspace mine directions"):
        make(two_tasks, processor, negatives=folder, reverse_negatives=True).setup()
