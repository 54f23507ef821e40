"""One optimiser step of the recipe: cached equals plain, what trains, what is refused."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from commonspace import Content
from commonspace.data.batch import Batch, SubBatch
from commonspace.errors import ConfigError
from commonspace.objectives.nce_options import NCEOptions
from commonspace.objectives.sigmoid_options import SigmoidOptions
from commonspace.stages.contrastive import ContrastiveStage
from commonspace.stages.objective import Objective
from commonspace.stages.optimiser import make_optimiser, parameter_groups
from commonspace.stages.pretrain import PretrainStage
from commonspace.stages.settings import StageSettings
from commonspace.stages.train import optimiser_steps
from tests.models.tiny import WORDS, picture, sound, tiny_embedder


def make_batch(embedder, size: int = 6, negatives: bool = True, kind: str = "image") -> Batch:
    made = [Content(picture(i) if kind == "image" else sound(pitch=200.0 + 50 * i)) for i in range(size)]
    texts = [Content(f"a {WORDS[i]} {WORDS[i + 3]}") for i in range(size)]
    wrong = [[Content(f"the {WORDS[i + 5]}")] * (i % 2) if negatives else [] for i in range(size)]
    process = embedder.processor
    return Batch(
        task="image_caption", query=[process(c) for c in made], positive=[process(c) for c in texts],
        negatives=[[process(c) for c in row] for row in wrong], query_ids=torch.arange(size),
        positive_ids=torch.arange(size) + 100, sources=[str(i) for i in range(size)], step=0,
    )  # fmt: skip


def make_stage(embedder, cls=ContrastiveStage, objective: Objective | None = None, **options) -> ContrastiveStage:
    settings = StageSettings(**{"name": "finetune", "steps": 10, **options})
    objective = objective or Objective((8, 16, 32), {"image_caption"}, NCEOptions())
    stage = cls(embedder, settings, objective, steps=10)
    return stage


def gradients(stage) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in stage.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("learned", [False, True])
def test_a_cached_step_has_the_gradients_of_a_plain_one(learned):
    embedder = tiny_embedder().double()
    batch = make_batch(embedder)
    plain = make_stage(copy.deepcopy(embedder), learn_temperature=learned)
    cached = make_stage(embedder, learn_temperature=learned, cache_tokens=20)
    for stage in (plain, cached):  # the loss itself is taken in float32 vectors
        stage.train()
        stage.backward_batch(batch)
    expected, found = gradients(plain), gradients(cached)
    assert expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("cache_tokens", [16384, 20])
def test_checkpointed_layers_give_the_same_gradients_with_dropout_and_caching(cache_tokens):
    """Caching replays the random state of its first pass, and a layer that of its own first pass, inside it."""
    embedder = tiny_embedder().double()
    batch, found = make_batch(embedder), []
    for again in (False, True):
        options = {"cache_tokens": cache_tokens, "dropout": 0.3, "gradient_checkpointing": again}
        stage = make_stage(copy.deepcopy(embedder), **options)
        stage.train()
        torch.manual_seed(5)
        stage.backward_batch(batch)
        assert all(layer.gradient_checkpointing is again for layer in stage.embedder.backbone.layers())
        found.append(gradients(stage))
    assert found[0].keys() == found[1].keys()
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, atol=1e-9, rtol=1e-6, msg=name)


def test_a_stage_overfits_a_handful_of_pairs():
    torch.manual_seed(0)
    embedder = tiny_embedder()
    batch = make_batch(embedder, negatives=False)
    stage = make_stage(embedder, learning_rate=3e-3, new_learning_rate=3e-3, schedule="constant", warmup=0.0, freeze=())
    optimiser, _ = make_optimiser(embedder, stage.settings, 60)
    for _ in range(60):
        optimiser.zero_grad()
        loss, report = stage.backward_batch(batch)
        optimiser.step()
    assert report["accuracy"] == 1
    assert float(loss) < 0.3


def test_rates_fall_with_depth_and_new_parts_have_their_own():
    embedder = tiny_embedder()
    settings = StageSettings("finetune", steps=10, learning_rate=1e-4, layer_decay=0.5, new_learning_rate=1e-2)
    rate = {id(p): group["lr"] for group in parameter_groups(embedder, settings) for p in group["params"]}
    layers = embedder.backbone.layers()
    assert rate[id(layers[1].output.dense.weight)] == pytest.approx(1e-4)
    assert rate[id(layers[0].output.dense.weight)] == pytest.approx(5e-5)
    assert rate[id(embedder.backbone.text.embeddings.position_embeddings.weight)] == pytest.approx(2.5e-5)
    assert rate[id(embedder.head.weight)] == rate[id(embedder.backbone.marks.weight)] == 1e-2
    assert sum(len(g["params"]) for g in parameter_groups(embedder, settings)) == sum(
        p.requires_grad for p in embedder.parameters()
    )


def test_frozen_parts_do_not_move_and_the_rest_settles_first():
    embedder = tiny_embedder()
    stage = make_stage(embedder, freeze=("words", "vision", "audio"), settle=0.5, warmup=0.0, weight_decay=0.0)
    before = {name: p.clone() for name, p in embedder.named_parameters()}
    optimiser, schedule = make_optimiser(embedder, stage.settings, 10)
    stage.backward_batch(make_batch(embedder))
    optimiser.step()
    schedule.step()
    moved = {name for name, p in embedder.named_parameters() if not torch.equal(p, before[name])}
    assert {"head.weight", "backbone.marks.weight", "backbone.image_connector.expand.weight"} <= moved
    assert not [name for name in moved if "layer" in name or "word_embeddings" in name or "vision" in name]


@pytest.mark.parametrize("cache_tokens", [16384, 20])
def test_nothing_trains_through_frozen_layers_and_the_rest_has_the_same_gradients(cache_tokens):
    whole = make_stage(tiny_embedder(), cache_tokens=cache_tokens)
    upper = make_stage(tiny_embedder(), cache_tokens=cache_tokens, frozen_layers=1)
    batch = make_batch(whole.embedder)
    for stage in (whole, upper):
        stage.train()
        stage.backward_batch(batch)
    expected, found = gradients(whole), gradients(upper)
    moved = {name for name, gradient in found.items() if gradient.any()}
    assert moved == {name for name in moved if "encoder.layer.1." in name or "head." in name}
    for name in moved:
        torch.testing.assert_close(found[name], expected[name])
    assert len(moved) == sum("encoder.layer.1." in name or "head." in name for name in expected)


def test_some_layer_must_train():
    with pytest.raises(ConfigError, match="frozen_layers=2: the transformer has 2; freeze text"):
        make_stage(tiny_embedder(), frozen_layers=2)


def test_an_audio_batch_trains_the_audio_connector():
    embedder = tiny_embedder()
    stage = make_stage(embedder)
    stage.backward_batch(make_batch(embedder, kind="audio", negatives=False))
    assert embedder.backbone.audio_connector.expand.weight.grad.abs().sum() > 0
    assert embedder.backbone.image_connector.expand.weight.grad is None


def mixed_batch(embedder) -> Batch:
    """Two sub-batches of three rows."""
    return replace(make_batch(embedder, negatives=False), parts=(SubBatch("image_caption", 3), SubBatch("speech", 3)))


def test_rows_of_sub_batches_meet_all_targets_at_their_own_temperature():
    embedder = tiny_embedder()
    stage = make_stage(embedder, temperature=0.05, task_temperatures={"speech": 0.2})
    stage.objective = Objective(None, (), NCEOptions())
    vectors_NE = torch.randn(12, 32, generator=torch.Generator().manual_seed(0))
    loss, report = stage.loss_of(mixed_batch(embedder), vectors_NE)
    query_BE, positive_BE = torch.nn.functional.normalize(vectors_NE, dim=1).chunk(2)
    logits_BB = query_BE @ positive_BE.T / torch.tensor([0.05] * 3 + [0.2] * 3)[:, None]
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits_BB, torch.arange(6)))
    assert float(report["negatives"]) == 5 and float(report["temperature"]) == pytest.approx(0.125)


def test_sub_batches_that_go_different_ways_are_refused():
    embedder = tiny_embedder()
    with pytest.raises(ConfigError, match="image_caption, speech goes both ways for some"):
        make_stage(embedder).loss_of(mixed_batch(embedder), torch.randn(12, 32))


def draws(stage: ContrastiveStage, batch: Batch) -> list[float]:
    """What a step draws before anything else does."""
    drawn: list[float] = []

    def note(_: Batch) -> None:
        drawn.extend(torch.rand(3).tolist())
        raise InterruptedError

    stage.optimizers = lambda: SimpleNamespace(zero_grad=lambda **_: None)
    stage.backward_batch = note
    with pytest.raises(InterruptedError):
        stage.training_step(batch, 0)
    return drawn


def test_draws_of_a_step_come_from_its_batch_and_its_process(monkeypatch):
    stage, batch = make_stage(tiny_embedder()), make_batch(tiny_embedder())
    first = draws(stage, replace(batch, seed=2**63 - 1))
    torch.rand(7)
    assert draws(stage, replace(batch, seed=2**63 - 1)) == first, "whatever was drawn before"
    assert draws(stage, replace(batch, seed=2)) != first
    monkeypatch.setattr(ContrastiveStage, "global_rank", 1)
    assert draws(stage, replace(batch, seed=2**63 - 1)) != first


def test_pretraining_refuses_hard_negatives_and_tasks_of_later_stages():
    embedder = tiny_embedder()
    stage = make_stage(embedder, PretrainStage, name="pretrain")
    with pytest.raises(ConfigError, match="image_caption brings hard negatives"):
        stage.training_step(make_batch(embedder), 0)
    with pytest.raises(ConfigError, match=r"speech \(audio\)"):
        PretrainStage.check_tasks("pretrain", {"speech": {"audio", "text"}, "code": {"text"}})


def test_the_report_names_both_directions():
    embedder = tiny_embedder()
    _, report = make_stage(embedder).backward_batch(make_batch(embedder))
    assert {"loss", "reverse/loss", "loss@8", "loss@32", "accuracy"} <= set(report)
    assert np.isfinite([float(value) for value in report.values()]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": None}, "exactly one"),
        ({"token_budget": 5}, "exactly one"),
        ({"temperature": 0.0}, "temperature"),
        ({"layer_decay": 0.5, "freeze": ("text",)}, "no effect"),
        ({"freeze": ("everything",)}, "freeze"),
        ({"frozen_layers": 1, "freeze": ("text",)}, "no effect"),
        ({"frozen_layers": -1}, "negative"),
        ({"schedule": "stairs"}, "schedule"),
        ({"accumulate": 0}, "accumulate"),
        ({"modality_temperatures": {"smell": 0.1}}, "may name"),
        ({"modality_temperatures": {"image": 0.0}}, "above 0"),
        ({"modality_temperatures": {"image": 0.1}, "task_temperatures": {"x": 0.1}}, "one of the two"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        StageSettings(**{"name": "finetune", "steps": 10, **options})


def test_an_unknown_option_is_named():
    with pytest.raises(ConfigError, match="learning_rte"):
        StageSettings.from_config({"name": "finetune", "steps": 1, "learning_rte": 1})


def test_checkpoints_leave_frozen_weights_out_and_load_with_them_missing():
    stage = make_stage(tiny_embedder())
    checkpoint = {"state_dict": stage.state_dict()}
    stage.on_save_checkpoint(checkpoint)
    names = checkpoint["state_dict"]
    assert "embedder.backbone.text.embeddings.word_embeddings.weight" not in names
    assert "embedder.head.weight" in names
    stage.load_state_dict(names)
    del names["embedder.head.weight"]
    with pytest.raises(ConfigError, match="embedder.head.weight"):
        stage.load_state_dict(names)


def test_a_shared_negative_is_left_out_of_the_row_whose_target_it_is():
    """Ids of hard negatives go from the sample to the loss: row 1's wrong text is row 2's target."""
    embedder = tiny_embedder()
    batch = make_batch(embedder)
    stage = make_stage(embedder, objective=Objective(None, (), NCEOptions(share_negatives=True)))
    batch.negative_ids = [[-1] * len(row) for row in batch.negatives]
    _, apart = stage.backward_batch(batch)
    batch.negative_ids[1] = [int(batch.positive_ids[2])]
    _, known = stage.backward_batch(batch)
    assert known["negatives"].item() == pytest.approx(apart["negatives"].item() - 1 / len(batch))


def test_pairs_take_the_temperature_of_their_modalities():
    embedder = tiny_embedder()
    given = {"modality_temperatures": {"image": 0.05, "audio": 0.1}, "temperature": 0.03, "learn_temperature": True}
    stage = make_stage(embedder, **given)
    pictures, sounds = (make_batch(embedder, kind=kind, negatives=False) for kind in ("image", "audio"))
    torch.testing.assert_close(stage.temperature_of(pictures), torch.full((6,), 0.04))
    torch.testing.assert_close(stage.temperature_of(sounds), torch.full((6,), 0.065))
    stage.backward_batch(pictures)
    moved = stage.temperature.log_temperature.grad != 0
    found = {name: bool(moved[i]) for name, i in stage.temperature.index.items()}
    assert found == {"": True, "image": True, "audio": False}
    assert id(stage.temperature.log_temperature) in optimised(stage)


def test_the_sigmoid_loss_trains_its_bias():
    embedder = tiny_embedder()
    stage = make_stage(embedder, objective=Objective((8, 32), (), SigmoidOptions(bias=-3.0)))
    stage.backward_batch(make_batch(embedder))
    assert stage.objective.bias.bias.grad != 0
    assert id(stage.objective.bias.bias) in optimised(stage)
    fixed = make_stage(embedder, objective=Objective((8, 32), (), SigmoidOptions(bias=-3.0, learn_bias=False)))
    assert not list(fixed.objective.parameters())


def optimised(stage) -> set[int]:
    """Ids of the tensors that the stage's optimiser moves."""
    groups = stage.configure_optimizers()["optimizer"].param_groups
    return {id(p) for group in groups for p in group["params"]}


def without_trainer(stage, monkeypatch) -> None:
    """Give `training_step` what it has from a trainer: optimiser and schedule, and nowhere to log to."""
    made = stage.configure_optimizers()
    monkeypatch.setattr(stage, "optimizers", lambda: made["optimizer"])
    monkeypatch.setattr(stage, "lr_schedulers", lambda: made["lr_scheduler"]["scheduler"])
    monkeypatch.setattr(stage, "_log_step", lambda *_: None)


@pytest.mark.parametrize("cache_tokens", [16384, 40])
def test_a_step_clips_the_mean_over_batches_once(cache_tokens, monkeypatch):
    """Two batches of different towers, one step: weights as by hand from the clipped gradient of their mean loss."""
    embedder = tiny_embedder().double()
    batches = [make_batch(embedder, kind=kind, negatives=False) for kind in ("image", "audio")]
    settings = {"accumulate": 2, "clip_norm": 0.1, "warmup": 0.0, "schedule": "constant", "settle": 0.0}
    stage, by_hand = (make_stage(copy.deepcopy(embedder), cache_tokens=cache_tokens, **settings) for _ in range(2))
    without_trainer(stage, monkeypatch)
    reference = by_hand.configure_optimizers()["optimizer"]
    before = {name: p.detach().clone() for name, p in stage.named_parameters()}
    stage.training_step(batches[0], 0)
    assert stage.pending == 1
    assert all(torch.equal(p, before[name]) for name, p in stage.named_parameters()), "no step yet"
    stage.training_step(batches[1], 1)
    assert stage.pending == 0
    for batch in batches:
        by_hand.backward_batch(batch)
    trained = [p for p in by_hand.parameters() if p.grad is not None]
    for p in trained:
        p.grad /= 2
    assert torch.nn.utils.clip_grad_norm_(trained, 0.1) > 0.1, "the clip must have had something to do"
    reference.step()
    after = dict(stage.named_parameters())
    for name, p in by_hand.named_parameters():
        torch.testing.assert_close(after[name], p, rtol=1e-9, atol=1e-9, msg=name)
    assert not torch.equal(after["embedder.head.weight"], before["embedder.head.weight"])


def test_batches_that_wait_for_their_step_are_drawn_again(monkeypatch):
    embedder = tiny_embedder()
    stage = make_stage(embedder, accumulate=3)
    without_trainer(stage, monkeypatch)
    stage.training_step(make_batch(embedder, negatives=False), 0)
    checkpoint = {"state_dict": {}, "data": {"step": 7, "mixture": {"seed": 1}}, "loops": {"step": 7}}
    stage.on_save_checkpoint(checkpoint)
    assert checkpoint["data"]["step"] == 6 and checkpoint["loops"]["step"] == 7


def test_a_budget_of_less_than_a_step_is_refused():
    settings = StageSettings("finetune", steps=1, accumulate=4)
    assert optimiser_steps(9, settings) == 2
    with pytest.raises(ConfigError, match="takes 4 batches, and stage.token_budget buys 3"):
        optimiser_steps(3, settings)


@pytest.mark.parametrize("cache_tokens", [None, 20])
def test_hard_negatives_of_the_reverse_count_against_their_positive(cache_tokens):
    """The loss of a batch with them is that of its vectors, by hand; the forward direction is as without."""
    embedder = tiny_embedder().double()
    batch = make_batch(embedder)
    size = len(batch)
    wrong = [[embedder.processor(Content(picture(20 + i)))] * (i % 3) for i in range(size)]
    batch.negative_ids = [[-1] * len(row) for row in batch.negatives]
    mined = replace(batch, reverse_negatives=wrong, reverse_negative_ids=[[-2] * len(row) for row in wrong])
    options = {} if cache_tokens is None else {"cache_tokens": cache_tokens}
    stage = make_stage(embedder, objective=Objective(None, {"image_caption"}, NCEOptions()), **options)
    stage.eval()
    _, plain = stage.backward_batch(batch)
    loss, report = stage.backward_batch(mined)
    assert float(report["loss"]) == pytest.approx(float(plain["loss"]), abs=1e-5)
    vectors = torch.nn.functional.normalize(embedder(mined.contents).detach().float(), dim=1)
    query, positive, backward = (
        vectors[:size],
        vectors[size : 2 * size],
        iter(vectors[2 * size + sum(map(len, batch.negatives)) :]),
    )
    temperature, total = float(stage.temperature_of(batch)), 0.0
    for row in range(size):
        targets = [*query, *(next(backward) for _ in wrong[row])]
        scores = torch.stack([positive[row] @ target for target in targets]) / temperature
        total += float(torch.logsumexp(scores, 0) - scores[row]) / size
    assert float(report["reverse/loss"]) == pytest.approx(total, abs=1e-4)
    assert float(loss) == pytest.approx(float(report["loss"]) + total, abs=1e-4)


def test_a_checkpoint_whose_optimiser_groups_other_weights_is_refused_by_name():
    stage = make_stage(tiny_embedder())
    groups = stage.configure_optimizers()["optimizer"].state_dict()["param_groups"]
    stage.on_load_checkpoint({"optimizer_states": [{"param_groups": groups}]})
    moved = [{**group, "params": group["params"][:-1]} for group in groups]
    with pytest.raises(ConfigError, match="groups its weights in another way.*resume=never"):
        stage.on_load_checkpoint({"optimizer_states": [{"param_groups": moved}]})
