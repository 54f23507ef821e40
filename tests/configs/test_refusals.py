"""What makes no sense is refused when the config is read, with the key in the message."""

from __future__ import annotations

import copy
from functools import cache

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from commonspace.configuration import check_config, compose, schema
from commonspace.errors import ConfigError

FINETUNE = ["stage=finetune", "data=finetune"]
GROUPS = ("stage", "data", "trainer", "objective", "logger")


@cache
def composed(groups: tuple[str, ...]) -> DictConfig:
    return compose("train", groups)


def changed(overrides: list[str]) -> DictConfig:
    """A config with values changed after composing: hydra takes most of the time of a test."""
    groups = tuple(word for word in overrides if word.partition("=")[0] in GROUPS)
    config = copy.deepcopy(composed(groups))
    with open_dict(config):
        config.merge_with(OmegaConf.from_dotlist([word.lstrip("+") for word in overrides if word not in groups]))
    return config


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["+stage.lr=1"], "stage.lr: unknown option; known here: .*learning_rate"),
        (["+data.tasks.code.weight=1"], "data.tasks.code.weight: unknown"),
        (["stage.learning_rate=fast"], "stage.learning_rate: 'fast' is text, expected a number"),
        (["seed=1.5"], "seed: 1.5 is a number, expected an integer"),
        (["data.features=3"], "data.features: 3 is an integer, expected true or false"),
        (["stage.steps=5"], "exactly one of stage.steps and stage.token_budget"),
        (["stage.token_budget=null"], "exactly one of stage.steps and stage.token_budget"),
        (["stage.temperature=0"], r"stage.temperature: 0 is outside"),
        (["stage.schedule=step"], "stage.schedule"),
        (["stage.warmup=1.5"], "stage.warmup: 1.5 is outside"),
        (["stage.freeze=[words,heads]"], "stage.freeze"),
        (["data.prefix_dropout=1.2", *FINETUNE], "data.prefix_dropout: 1.2 is outside"),
        (["data.negatives=x"], "data.negatives: pretraining takes no hard negatives"),
        (["data.workers=-1"], "data.workers: -1 is outside"),
        (["data.tasks.code.batch_size=1"], "data.tasks.code.batch_size: 1 leaves no wrong target"),
        (["data.tasks.code.rate=-1"], "data.tasks.code.rate: -1"),
        (["+data.tasks.speech.rate=1"], "data.tasks.speech: no task of this mixture; it has .*code"),
        (["data.tasks.code.name=other"], "data.tasks.code.name: is 'other'"),
        (["model.matryoshka_sizes=[256,128,384]"], "model.matryoshka_sizes: .* must rise"),
        (["model.matryoshka_sizes=[64,128]"], "model.matryoshka_sizes: .* must rise"),
        (["model.matryoshka_sizes=[384]"], "objective.matryoshka: needs a size below"),
        (["model.embedding_size=768", "model.matryoshka_sizes=[384,768]"], "model.head_init: identity"),
        (["model.image_grid=20"], "model.image_grid: 20 tokens a side"),
        (["model.max_tokens=8192"], "model.max_tokens: 8192 is above the 512 positions"),
        (["model.positions=restart"], "model.max_positions: None with positions=restart"),
        (["model.max_positions=8192"], "model.max_positions: 8192 with positions=limit"),
        (["model.positions=stretch"], "model.positions: 'stretch' is none of limit, interpolate, restart"),
        (
            ["model.positions=restart", "model.max_positions=4096", "model.max_tokens=8192"],
            "model.max_tokens: 8192 is above the 4096 positions",
        ),
        (["model.merge_beyond=512"], "model.merge_beyond: no content has more than max_tokens=512"),
        (["model.merge_beyond=4"], "model.merge_beyond: 4 is outside"),
        (["model.window=256"], "model.global_every: None with window=256; give both"),
        (["model.global_every=4"], "model.global_every: 4 with window=None; give both"),
        (["model.window=511", "model.global_every=4"], "model.window: no content has a token further than max_tokens"),
        (["model.window=4", "model.global_every=4"], "model.window: 4 is outside"),
        (["model.window=64", "model.global_every=1"], "model.global_every: 1 is outside"),
        (["model.name=causal_lm", "model.window=64", "model.global_every=2"], "model.window: layers of causal_lm"),
        (["model.max_text_tokens=600"], "model.max_text_tokens: 600 is above max_tokens=512"),
        (["model.image_patch=15"], "model.image_size: 224 is no multiple of image_patch=15"),
        (["model.pooling=max"], "model.pooling: 'max' is none of mean, last, input_and_last"),
        (["model.image_max_tokens=64"], "model.image_max_tokens: has no effect on model.name=compact"),
        (["+model.attention=causal"], "model.attention: has no effect on model.name=compact"),
        (["model.name=gemma3", "+model.after=x"], "model.after: has no effect on model.name=gemma3"),
        (["+model.attention=half"], "model.attention: 'half' is none of full, causal"),
        (["stage=align", "+data.tasks.image_caption.swap=true"], "image_caption.swap: alignment has no queries"),
        (["stage=align", "data.prefix_dropout=0.3"], "data.prefix_dropout: alignment encodes each text once"),
        ([*FINETUNE, "data.tasks.sound.swap=true"], "data.tasks.sound.swap: data.negatives are wrong targets"),
        (["model.lora.alpha=16"], "model.lora.alpha: has no effect at rank 0"),
        (["stage.average_decay=0.5"], "stage.average_decay is of average=ema alone"),
        (["stage.clip_norm=0"], "stage.clip_norm: 0 is outside"),
        (["data.canonical=1.5"], "data.canonical: 1.5 is outside"),
        (["model.lora.dropout=0.1"], "model.lora.dropout: has no effect at rank 0"),
        (["model.lora.rank=8", "stage.freeze=[words,text,vision,audio]"], "model.lora.rank: adapters on a frozen"),
        (["model.lora.save=adapter"], "model.lora.save: there is no adapter to save at rank 0"),
        (["model.lora.rank=8", "model.lora.save=adapter"], "model.lora.save: an adapter names the model folder"),
        (["model.lora.rank=8", "model.lora.save=adapter", "init=x", "output=x"], "output: is init, which the adapter"),
        (["model.lora.save=both"], "model.lora.save: 'both' is none of merged, adapter"),
        (["stage.vision_trainable_stages=1"], "stage.vision_trainable_stages: has no effect while"),
        (["stage.audio_trainable=true"], "stage.audio_trainable: has no effect while"),
        (["stage.audio_trainable=true", "model.audio=null"], "stage.audio_trainable: there is no audio tower"),
        (["stage=align", "stage.gradient_checkpointing=true"], "stage.gradient_checkpointing has no effect in align"),
        (
            ["stage.gradient_checkpointing=true", "stage.freeze=[text]", "model.vision=null", "model.audio=null"],
            "stage.gradient_checkpointing: text is frozen and no tower",
        ),
        (["stage.audio_trainable=true", "stage.freeze=[words]"], "data.features: the audio tower trains"),
        (["stage.vision_trainable_stages=1", "stage.freeze=[words]"], "data.features: the vision tower trains"),
        (["objective.share_negatives=true"], "objective.share_negatives: there are no hard negatives"),
        (["objective.hardness_on=all"], "objective: hardness_on=all has no effect"),
        (["objective.hardness_alpha=5.0"], "objective.hardness_alpha: there are no hard negatives to act on"),
        (["objective.classification=true"], "objective.reverse: classification has none"),
        (
            [*FINETUNE, "data.reverse_negatives=true", "data.negatives=null"],
            "data.reverse_negatives: there are no lists",
        ),
        (
            [*FINETUNE, "objective=plain", "data.reverse_negatives=true"],
            "data.reverse_negatives: the objective takes no",
        ),
        ([*FINETUNE, "data.negatives=null", "objective.share_negatives=true"], r"hard negatives .*data.negatives=null"),
        ([*FINETUNE, "data.negative_count=0", "objective.hardness_alpha=5.0"], r"hard .*data.negative_count=0"),
        (["objective.chunk_rows=4096"], "objective.chunk_rows: 4096 chunks no batch, the largest has"),
        (["objective.spread=-1"], "objective.spread: -1 must be a weight"),
        (["objective.matryoshka_weights=[1,2]"], "objective.matryoshka_weights: .* is no list of 4 numbers"),
        (["objective.matryoshka_weights=[1,1,0,1]"], "objective.matryoshka_weights: .* must be positive"),
        (
            ["objective.matryoshka=false", "objective.matryoshka_weights=[1,1,1,1]"],
            "objective.matryoshka_weights: has no effect with objective.matryoshka=false",
        ),
        (["objective=sigmoid", "+objective.mask_margin=0.1"], "objective: unknown option mask_margin of sigmoid"),
        (["objective=sigmoid", "+objective.reverse=true"], "objective: unknown option reverse of sigmoid"),
        (["+objective.bias=-10.0"], "objective: unknown option bias of nce"),
        (["objective.name=triplet"], "objective: name=triplet is no loss"),
        (["+stage.modality_temperatures.audio=0.1"], "stage.modality_temperatures.audio: no task that is drawn"),
        (["+stage.modality_temperatures.smell=0.1"], "stage.modality_temperatures may name"),
        (["stage.accumulate=0"], "stage.accumulate must be at least 1"),
        (["trainer=fsdp", "stage=align"], "trainer.strategy: fsdp shards a transformer that align does not train"),
        (["trainer=fsdp", "stage.keep_best=true"], "stage.keep_best: puts whole weights back, which fsdp holds"),
        (
            ["trainer=fsdp", "trainer.strategy=ddp", "trainer.save_shares=true"],
            "trainer.save_shares: has no effect on strategy=ddp",
        ),
        (["data.stall_seconds=0"], "data.stall_seconds: 0 is outside"),
        (["trainer.devices=2"], "trainer.strategy: auto with several processes"),
        (["logger.wandb.mode=cloud"], "logger.wandb.mode: 'cloud' is none of offline, online"),
        (["trainer.precision=16-mixed"], r"trainer.precision: '16-mixed' is none of .* \(float16 ends at 65504"),
        (["trainer.precision=64-true"], "trainer.precision: '64-true' is none of auto, 32-true, bf16-mixed$"),
        (["resume=maybe"], "resume: 'maybe' is none of auto, never"),
        (["callbacks.keep=-1"], "callbacks.keep: -1 is outside"),
        (["callbacks.checkpoint_minutes=0"], "callbacks.checkpoint_minutes: 0 is outside"),
        (
            ["stage.schedule_floor=0.1", "stage.schedule=linear"],
            "stage.schedule_floor has no effect on schedule linear",
        ),
        (["stage.schedule_decay=0.1"], "stage.schedule_decay has no effect on schedule cosine"),
        (
            ["stage.schedule=warmup_stable_decay", "stage.warmup=0.5", "stage.schedule_decay=0.6"],
            "stage.settle, warmup and schedule_decay are more than all steps",
        ),
        (["stage.keep_best=true", "stage.dev_every=0.0"], "stage.keep_best chooses by dev scores within the run"),
        (["stage.keep_best=true", "stage.average=ema"], "stage.keep_best and stage.average both choose"),
        (["data.temperature=0"], "data.temperature: 0 is outside"),
        (["data.sub_batches=0"], "data.sub_batches: 0 is outside"),
        (["data.sub_batches=2", "data.first_only=true"], "data.sub_batches: one task alone is drawn"),
        (["data.sub_batches=2"], r"objective.reverse: tasks of one batch \(data.sub_batches\) must agree"),
        (["data.sub_batches=3", "objective.reverse=false"], "data.tasks.image_caption.batch_size: 512 has no 3 equal"),
        (["paths.runs=s3://bucket/runs"], "paths.runs: s3://bucket/runs is no folder of this machine"),
    ],
)
def test_train(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(changed(overrides), "train")


@pytest.mark.parametrize(
    "root, given", [("mine", ["embedder=x"]), ("evaluate", ["embedder=chance"]), ("data_build", [])]
)
def test_only_training_reads_from_afar(root: str, given: list[str]) -> None:
    compose("train", ["paths.data=s3://bucket/data"])
    with pytest.raises(ConfigError, match=r"paths.data: s3://bucket/data is no folder.* only `train` reads"):
        compose(root, ["paths.data=s3://bucket/data", *given])


@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            ["data.features=false", "stage.audio_trainable=true"],
            "stage.audio_trainable: omni's own towers train unless",
        ),
        (["data.features=false", "+model.image_size=64"], "model.image_size: has no effect on model.name=omni"),
        (
            ["data.features=false", "model.pooling=input_and_last"],
            "model.pooling: input_and_last reads what connectors",
        ),
        ([], "data.features: what omni's own towers give is not kept"),
    ],
)
def test_a_model_with_towers_of_its_own(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("train", ["model=omni", *overrides])


@pytest.mark.parametrize("option", ["image_min_tokens=4", "frame_min_tokens=4", "video_min_frames=4", "image_grid=3"])
def test_numbers_that_embedding_gemma2_does_not_take(option: str) -> None:
    with pytest.raises(ConfigError, match=f"model.{option.partition('=')[0]}: has no effect on model.name=embedding_"):
        compose("train", ["model=embedding_gemma2_whole", "data.features=false", f"+model.{option}"])


@pytest.mark.parametrize("override", ["stage.lr=1", "stage=nothing", "nonsense", "+stage.lr=1"])
def test_what_hydra_refuses_is_named_too(override: str) -> None:
    with pytest.raises(ConfigError, match=override.lstrip("+").partition("=")[0]):
        compose("train", [override])


def test_no_reverse_to_take() -> None:
    rates = [f"data.tasks.{name}.rate=0" for name in ("image_caption", "crosslingual")]
    with pytest.raises(ConfigError, match="objective.reverse: no task that is drawn names a reverse"):
        check_config(changed(rates), "train")


def test_nothing_to_train_on() -> None:
    rates = [f"data.tasks.{name}.rate=0" for name in composed(()).data.tasks]
    with pytest.raises(ConfigError, match="data.tasks: no task has a rate above 0"):
        check_config(changed(rates), "train")


def test_prefixes_without_prompts() -> None:
    prompts = [f"data.tasks.{name}.prompt=null" for name in composed(tuple(FINETUNE)).data.tasks]
    with pytest.raises(ConfigError, match="data.prefix_dropout: no task that is drawn has a prompt"):
        check_config(changed([*FINETUNE, *prompts]), "train")


@pytest.mark.parametrize(
    "given, message", [("[a]", "ingredients: 1 given"), ("[a,b,a]", "ingredients: a folder is named")]
)
def test_soup(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("soup", [f"ingredients={given}"])


@pytest.mark.parametrize(
    "root, given",
    [
        ("embed", ["embedder=models/x", "input=in.jsonl", "output=out.npy", "precision=fp16"]),
        ("evaluate", ["embedder=models/x", "precision=16-mixed"]),
        ("mine", ["embedder=models/x", "precision=16-true"]),
        ("soup", ["ingredients=[models/x,models/y]", "trainer.precision=16-mixed"]),
    ],
)
def test_float16_is_refused_with_the_reason_by_every_command(root: str, given: list[str]) -> None:
    compose(root, [*given[:-1], given[-1].partition("=")[0] + "=bf16-mixed"])
    with pytest.raises(ConfigError, match="precision: .*float16 ends at 65504.*bfloat16 has float32's range"):
        compose(root, given)


@pytest.mark.parametrize("embedder", ["late_fusion", "models/mini/soup"])
def test_teachers_beside_anything_but_the_baselines(embedder: str) -> None:
    compose("evaluate", ["embedder=baselines", "teachers=models/teachers"])
    with pytest.raises(ConfigError, match=f"teachers: has no effect on embedder={embedder}"):
        compose("evaluate", [f"embedder={embedder}", "teachers=models/teachers"])


@pytest.mark.parametrize(
    "embedder, given",
    [
        ("baselines", "prefix_policy=none"),
        ("late_fusion", "batch_tokens=4096"),
        ("e5", "name=other"),
        ("chance", "dims=[64]"),
        ("bm25", "seeds=2"),
        ("models/x", "seeds=2"),
        ("models/x", "tries=2"),
        ("models/x", "seed=2"),
        ("models/x", "rescored=10"),
        ("chance", "quantised=[int8]"),
        ("bm25", "wandb=none"),
    ],
)
def test_what_an_evaluation_would_not_read(embedder: str, given: str) -> None:
    key = given.partition("=")[0]
    with pytest.raises(ConfigError, match=f"{key}: has no effect on embedder={embedder}"):
        compose("evaluate", [f"embedder={embedder}", given])


@pytest.mark.parametrize(
    "words",
    [
        ["embedder=baselines", "seeds=2", "tries=2", "seed=3"],
        ["embedder=models/x", "quantised=[int8,binary_float]", "rescored=10"],
        ["embedder=models/x", "prefix_policy=task", "batch_tokens=4096", "name=y", "dims=[64]"],
        ["embedder=models/x", "wandb=none"],
    ],
)
def test_what_an_evaluation_reads_passes(words: list[str]) -> None:
    assert compose("evaluate", words)


def test_an_evaluations_defaults_are_known() -> None:
    from commonspace.contradictions import _BASELINES, _FORMS, _UNASKED
    from commonspace.evaluation.quantised import FORMS
    from commonspace.evaluation.run import BASELINES

    config = compose("evaluate", ["embedder=chance"])
    assert {key: config[key] for key in _UNASKED} == _UNASKED
    assert set(_BASELINES) == {*BASELINES, "baselines"} and _FORMS == FORMS
    with pytest.raises(ConfigError, match="wandb: 'cloud' is none of offline, online, none"):
        compose("evaluate", ["embedder=models/x", "wandb=cloud"])
    with pytest.raises(ConfigError, match="quantised: 'int4' is none of int8, binary"):
        compose("evaluate", ["embedder=models/x", "quantised=[int4]"])


@pytest.mark.parametrize("option", ["task_temperatures", "task_text_dropout"])
def test_an_option_of_a_task_that_is_not_drawn(option: str) -> None:
    compose("train", ["experiment=mini/align", f"+stage.{option}.sound=0.1"])
    with pytest.raises(ConfigError, match=f"stage.{option}.document: no task of that name is drawn"):
        compose("train", ["experiment=mini/align", f"+stage.{option}.document=0.1"])


def test_all_findings_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="model.pooling.*data.workers|data.workers.*model.pooling"):
        check_config(changed(["model.pooling=max", "data.workers=-1"]), "train")


def test_a_typing_error_in_an_experiment_is_found() -> None:
    """Hydra merges experiment files into the root without a word; here one that was edited by hand."""
    with pytest.raises(ConfigError, match="stage.temprature: unknown option"):
        check_config(changed(["stage.temprature=0.1"]), "train")


def test_schema_is_what_the_files_say() -> None:
    assert schema("train")["stage"]["temperature"] == [0.03, 0.02]  # align and pretrain
    assert "embedder" in schema("evaluate") and "stage" not in schema("evaluate")


@pytest.mark.parametrize(
    "override", ["stage.learning_rate=1", "stage.dev_every=1", "logger=csv", "init=models/x", "model.audio=null"]
)
def test_sound_values_of_another_spelling_pass(override: str) -> None:
    check_config(changed([override]), "train")


@pytest.mark.parametrize(
    "given, message",
    [
        (["method=mean"], "method: 'mean' is none of"),
        (["method=weighted"], "weights: method=weighted needs them"),
        (["method=uniform", "weights=[1,2]"], "weights: method=uniform has none"),
        (["method=learned", "weights=[1,2]"], "weights: method=learned finds its own"),
        (["method=uniform", "uniform_output=models/z"], "uniform_output: uniform averages all ingredients into output"),
        (["method=slerp", "ingredients=[a,b,c]"], "method: slerp joins two ingredients, 3"),
        (["base=models/z"], "base: is what path=sphere and method=slerp go around, and this is greedy"),
        (["method=slerp", "base=models/z", "lora=factors"], "base: a whole model has no factors"),
        (["learned.steps=3"], "learned: has no effect on method=greedy"),
        (["method=learned", "learned.learning_rate=0"], "learned.learning_rate: 0 is outside"),
        (["method=learned", "learned.by=tensor"], "learned.by: 'tensor' is none of model, layer"),
        (["loss.batch_size=1"], "loss.batch_size: 1 is outside"),
        (["loss.temperature=0"], "loss.temperature: 0 is outside"),
    ],
)
def test_what_a_method_of_souping_would_not_read(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("soup", ["ingredients=[a,b]", *given])


@pytest.mark.parametrize(
    "given",
    [
        ["method=learned", "learned.by=layer", "learned.steps=3", "uniform_output=models/z", "weights=[1,2]"],
        ["method=slerp", "base=models/z", "weights=[1,2]"],
        ["method=weighted", "weights=[1,2]", "lora=factors"],
    ],
)
def test_what_a_method_of_souping_reads_passes(given: list[str]) -> None:
    assert compose("soup", ["ingredients=[a,b]", *given])


def test_soups_defaults_are_known() -> None:
    from commonspace.stage_contradictions import UNLEARNED

    assert compose("soup", ["ingredients=[a,b]"]).learned == UNLEARNED


@pytest.mark.parametrize(
    "given, message",
    [
        (["points=2"], "points: 2 is outside"),
        (["path=around"], "path: 'around' is none of straight, sphere"),
        (["base=models/z"], "base: .*and this is straight"),
    ],
)
def test_what_barriers_would_not_read(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("soup_barriers", ["ingredients=[a,b]", *given])
