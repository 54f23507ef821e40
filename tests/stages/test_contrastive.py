"""One optimiser step of the recipe: cached equals plain, what trains, what is refused."""

import copy

import numpy as np
import pytest
import torch

from commonspace import Content
from commonspace.data.batch import Batch
from commonspace.errors import ConfigError
from commonspace.objectives.nce_options import NCEOptions
from commonspace.stages.contrastive import ContrastiveStage
from commonspace.stages.objective import Objective
from commonspace.stages.optimiser import make_optimiser, parameter_groups
from commonspace.stages.pretrain import PretrainStage
from commonspace.stages.settings import StageSettings
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


def make_stage(embedder, cls=ContrastiveStage, **options) -> ContrastiveStage:
    settings = StageSettings(**{"name": "finetune", "steps": 10, **options})
    objective = Objective((8, 16, 32), {"image_caption"}, NCEOptions())
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


def test_an_audio_batch_trains_the_audio_connector():
    embedder = tiny_embedder()
    stage = make_stage(embedder)
    stage.backward_batch(make_batch(embedder, kind="audio", negatives=False))
    assert embedder.backbone.audio_connector.expand.weight.grad.abs().sum() > 0
    assert embedder.backbone.image_connector.expand.weight.grad is None


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
        ({"schedule": "stairs"}, "schedule"),
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
