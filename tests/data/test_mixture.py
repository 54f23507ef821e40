"""The mixture: rates, epochs without repeats, concepts apart, little padding, exact resume, slices of ranks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from commonspace.data.batching import spread_order, window_batches
from commonspace.data.mixture import Mixture, TaskPlan
from commonspace.errors import ConfigError


def tokens_of(length: int) -> np.ndarray:
    return np.random.default_rng(5).integers(8, 200, length)


def plans(**changes) -> list[TaskPlan]:
    first = {"length": 1000, "batch_size": 16, "rate": 3.0, "tokens": tokens_of(1000), **changes}
    return [TaskPlan("first", **first), TaskPlan("second", 90, 8, 1.0, reverse=True, tokens=tokens_of(90))]


def mixture(tasks=None, **options) -> Mixture:
    return Mixture(tasks or plans(), **{"seed": 7, "steps": 400, **options})


def listed(plan) -> tuple:
    return plan.step, plan.task, plan.epoch, plan.reverse, plan.seed, plan.indices.tolist()


def test_each_batch_has_one_task_at_its_size_and_rates_hold():
    seen = list(mixture(steps=2000))
    assert {(p.task, len(p.indices), p.reverse) for p in seen} == {("first", 16, False), ("second", 8, True)}
    share = Counter(p.task for p in seen)["first"] / 2000
    assert abs(share - 0.75) < 3 * (0.75 * 0.25 / 2000) ** 0.5
    assert len({p.seed for p in seen}) == 2000


@pytest.mark.parametrize("seed", range(20))
def test_even_a_short_run_keeps_to_the_rates(seed):
    seen = Counter(plan.task for plan in mixture(seed=seed, steps=16))
    assert abs(seen["second"] - 4) <= 1


def test_no_record_comes_twice_in_an_epoch_and_every_epoch_differs():
    epochs: dict[tuple[str, int], list[int]] = {}
    for plan in mixture(steps=600):
        epochs.setdefault((plan.task, plan.epoch), []).extend(plan.indices.tolist())
    assert len(epochs) > 8
    for (task, _), rows in epochs.items():
        assert len(rows) == len(set(rows)) <= {"first": 992, "second": 88}[task]
    first = [rows for (task, _), rows in epochs.items() if task == "first"]
    assert len(first[0]) == 992 and first[0] != first[1] and set(first[0]) != set(first[1])


def test_the_same_seed_gives_the_same_plans_another_seed_others():
    assert [listed(p) for p in mixture()] == [listed(p) for p in mixture()]
    assert [listed(p) for p in mixture(seed=8)] != [listed(p) for p in mixture()]


@pytest.mark.parametrize("stop", [0, 1, 137, 400])
def test_resuming_is_exact(stop):
    whole = [listed(p) for p in mixture()]
    running = mixture()
    iterator = iter(running)
    for _ in range(stop):
        next(iterator)
    state = running.state_dict()
    again = mixture()
    again.load_state_dict(state)
    assert [listed(p) for p in again] == whole[stop:]
    assert len(repr(state)) < 10_000


def test_a_longer_run_goes_on_from_a_shorter_one():
    short, long = mixture(steps=100), mixture(steps=400)
    assert [listed(p) for p in short] == [listed(long.plan(step)) for step in range(100)]
    long.load_state_dict(short.state_dict())
    assert next(iter(long)).step == 100


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 32}, "batches of 16.*batches of 32"),
        ({"rate": 1.0}, r"share 0\.75.*share 0\.5"),
        ({"length": 999, "tokens": tokens_of(999)}, "1000 records.*999 records"),
        ({"tokens": tokens_of(1000) + 1}, "data"),
        ({"fingerprint": "other"}, "data .*data other"),
        ({"bucket": 2}, "bucket"),
    ],
)
def test_another_mixture_is_refused_with_what_changed(changes, message):
    with pytest.raises(ConfigError, match=rf"tasks\.first \(.*{message}"):
        mixture(plans(**changes)).load_state_dict(mixture().state_dict())


def test_a_run_cannot_go_on_past_its_end():
    done = mixture(steps=50)
    list(done)
    with pytest.raises(ConfigError, match="stopped after 50 steps, this one has only 40"):
        mixture(steps=40).load_state_dict(done.state_dict())


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_take_slices_of_one_global_batch(world_size):
    ranks = [mixture(rank=rank, world_size=world_size) for rank in range(world_size)]
    for whole, *parts in zip(mixture(), *ranks, strict=True):
        assert np.concatenate([p.indices for p in parts]).tolist() == whole.indices.tolist()
        assert all(p.all_indices.tolist() == whole.indices.tolist() for p in parts)
        assert {(p.task, p.seed, p.step) for p in parts} == {(whole.task, whole.seed, whole.step)}


def padding(plans: list, tokens: np.ndarray) -> float:
    """Share of padded tokens that are padding."""
    batches = [tokens[p.indices] for p in plans if p.task == "first"]
    return 1 - sum(b.sum() for b in batches) / sum(b.max() * len(b) for b in batches)


def test_buckets_waste_little():
    tokens = tokens_of(1000)
    assert padding(list(mixture(plans(bucket=1))), tokens) > 0.4
    assert padding(list(mixture(plans(bucket=16))), tokens) < 0.1


@pytest.mark.parametrize("bucket", [4, 16])
def test_a_concept_does_not_meet_itself_where_that_can_be_avoided(bucket):
    concepts = np.random.default_rng(1).integers(0, 90, 1000)  # about 11 records each, 62 batches an epoch
    seen = [p for p in mixture(plans(concepts=concepts, bucket=bucket)) if p.task == "first"]
    assert all(len(set(concepts[p.indices])) == 16 for p in seen)
    tokens = tokens_of(1000)
    assert padding(seen, tokens) < (0.35 if bucket == 4 else 0.2)


def test_unavoidable_repeats_are_as_few_as_can_be():
    concepts = np.concatenate([np.zeros(10, int), np.arange(1, 55)])  # ten of one concept in four batches
    rows = np.arange(64)
    batches = window_batches(rows, 16, None, concepts, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == rows.tolist()
    assert sum(16 - len(set(concepts[batch])) for batch in batches) == 6


def test_spread_order_keeps_equal_concepts_apart():
    concepts = np.repeat(np.arange(50), 20)
    order = spread_order(1000, concepts, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(1000))
    for concept in range(0, 50, 7):
        places = np.flatnonzero(concepts[order] == concept)
        assert np.diff(places).min() > 20  # 50 apart on average


def test_the_schedule_counts_what_happens():
    made = mixture()
    for row in made.schedule():
        own = [p for p in mixture() if p.task == row["task"]]
        assert row["steps"] == len(own) and row["samples"] == sum(len(p.indices) for p in own)
        assert row["epochs"] == pytest.approx(len(own) / (row["records"] // row["batch_size"]))
    assert sum(row["steps"] for row in made.schedule(100)) == 100


@pytest.mark.parametrize("temperature, ratio", [(1.0, 10.0), (2.0, 10**0.5), (1e9, 1.0)])
def test_sampling_by_size(temperature, ratio):
    tasks = [TaskPlan("large", 1000, 20, None), TaskPlan("small", 100, 10, None)]
    samples = Counter()
    for plan in Mixture(tasks, seed=1, steps=20_000, temperature=temperature):
        samples[plan.task] += len(plan.indices)
    assert samples["large"] / samples["small"] == pytest.approx(ratio, rel=0.1)


def sub_plans(made: Mixture) -> list:
    """The plans of all sub-batches, in order."""
    return [part for plan in made for part in (plan, *plan.others)]


@pytest.mark.parametrize("parts", [2, 4])
def test_sub_batches_are_shares_of_batches_at_the_same_rates_and_epochs(parts):
    seen = sub_plans(mixture(sub_batches=parts, steps=800))
    assert {(p.task, len(p.indices)) for p in seen} == {("first", 16 // parts), ("second", 8 // parts)}
    assert len(seen) == 800 * parts and abs(Counter(p.task for p in seen)["first"] / len(seen) - 0.75) < 0.01
    assert len({p.seed for p in seen}) == len(seen)
    epochs: dict[tuple[str, int], list[int]] = {}
    for plan in seen:
        epochs.setdefault((plan.task, plan.epoch), []).extend(plan.indices.tolist())
    assert all(len(rows) == len(set(rows)) for rows in epochs.values())
    schedule = {row["task"]: row for row in mixture(sub_batches=parts, steps=800).schedule()}
    for task, row in schedule.items():
        own = [p for p in seen if p.task == task]
        assert row["samples"] == sum(len(p.indices) for p in own) and row["steps"] == len(own) / parts
        assert row["epochs"] == pytest.approx(own[-1].epochs)


def test_tasks_meet_in_a_batch():
    steps = list(mixture(plans(rate=1.0), sub_batches=2))
    assert sum(len({plan.task, *(p.task for p in plan.others)}) == 2 for plan in steps) > 0.7 * len(steps), (
        "half of them, were tasks drawn at random"
    )


def test_ranks_share_every_sub_batch_and_resuming_is_exact():
    made = {"sub_batches": 2}
    whole = [listed(p) for p in sub_plans(mixture(**made))]
    ranks = [sub_plans(mixture(rank=rank, world_size=2, **made)) for rank in (0, 1)]
    together = [one.indices.tolist() + two.indices.tolist() for one, two in zip(*ranks, strict=True)]
    assert together == [plan[-1] for plan in whole]
    running = mixture(**made)
    iterator = iter(running)
    for _ in range(137):
        next(iterator)
    again = mixture(**made)
    again.load_state_dict(running.state_dict())
    assert [listed(p) for p in sub_plans(again)] == whole[137 * 2 :]
    with pytest.raises(ConfigError, match=r"sub_batches \(was 2, is None\)"):
        mixture().load_state_dict(running.state_dict())


def test_plans_count_the_epochs_of_their_task():
    done = Counter()
    for plan in mixture():
        done[plan.task] += len(plan.indices)
        assert plan.epochs == pytest.approx(done[plan.task] / {"first": 992, "second": 88}[plan.task])


def test_the_state_of_many_tasks_and_steps_stays_small():
    many = [TaskPlan(f"task number {n} with a long name", 50_000, 512, 1.0) for n in range(200)]
    made = Mixture(many, seed=1, steps=100_000)
    made.step = 99_999
    assert len(json.dumps(made.state_dict())) < 100_000


@pytest.mark.parametrize(
    "task, message",
    [
        ({"rate": 0.0}, "rate must be above 0"),
        ({"rate": -1.0}, "rate must be above 0"),
        ({"length": 0, "tokens": None}, "has no records"),
        ({"length": 15, "tokens": None}, "15 records, too few for one batch of 16"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"bucket": 0}, "bucket must be at least 1"),
        ({"tokens": tokens_of(3)}, "3 tokens for 1000 records"),
    ],
)
def test_tasks_that_cannot_be_drawn(task, message):
    with pytest.raises(ConfigError, match=f"task first: .*{message}|task first: {message}"):
        plans(**task)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tasks": []}, "needs tasks"),
        ({"tasks": [TaskPlan("a", 9, 3), TaskPlan("a", 9, 3)]}, "each name once"),
        ({"steps": 0}, "steps=0"),
        ({"rank": 2, "world_size": 2}, "rank=2"),
        ({"sub_batches": 0}, "sub_batches=0"),
        ({"sub_batches": 3}, "batch_size 16 cannot be split over 3 sub-batches"),
        ({"sub_batches": 2, "world_size": 8}, "cannot be split over 2 sub-batches times 8 processes"),
        ({"world_size": 3}, "batch_size 16 cannot be split over 3"),
        ({"temperature": 1.0}, "rates of first, second without effect"),
        ({"tasks": [TaskPlan("a", 9, 3, None)]}, "no rate for a"),
        ({"tasks": [TaskPlan("a", 9, 3, None)], "temperature": 0.0}, "above 0"),
    ],
)
def test_mixtures_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        Mixture(options.pop("tasks", plans()), **{"seed": 1, "steps": 10, **options})


def test_no_trainer_and_no_config_library_is_imported():
    code = (
        "import sys, commonspace.data.mixture, commonspace.data.shards, commonspace.data.loader, "
        "commonspace.data.features, commonspace.mining.mine\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('lightning', 'pytorch_lightning', 'hydra', 'omegaconf')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
