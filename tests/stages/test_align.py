"""Alignment moves connectors and head, past the transformer, and nothing else."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from commonspace.content import Content
from commonspace.data.datamodule import CommonspaceDataModule
from commonspace.errors import ConfigError, ContentError, DataError
from commonspace.objectives.nce_options import NCEOptions
from commonspace.processing.pieces import Piece, Pieces
from commonspace.stages import align
from commonspace.stages.align import AlignStage, MeanRows
from commonspace.stages.objective import Objective
from commonspace.stages.optimiser import make_optimiser
from commonspace.stages.settings import StageSettings
from tests.models.tiny import clip, picture, sound, tiny_embedder
from tests.stages.test_contrastive import make_batch
from tests.stages.training import write_pairs

FROZEN = ("words", "text", "vision", "audio")


def make_stage(embedder, freeze=FROZEN, dropout=0.0, **options) -> AlignStage:
    settings = StageSettings(
        "align",
        steps=40,
        freeze=freeze,
        learning_rate=0.0,
        tower_learning_rate=0.0,
        new_learning_rate=3e-3,
        schedule="constant",
        warmup=0.0,
        dropout=dropout,
        **options,
    )
    return AlignStage(embedder, settings, Objective((8, 16, 32), {"image_caption"}, NCEOptions()), steps=40)


@pytest.mark.parametrize("kind", ["image", "audio"])
@pytest.mark.parametrize("head", [True, False])
def test_a_connector_learns_its_texts_and_nothing_else_but_the_head_moves(kind, head):
    torch.manual_seed(0)
    embedder = tiny_embedder(pooling="input_and_last")
    before = {name: p.clone() for name, p in embedder.named_parameters()}
    stage = make_stage(embedder, FROZEN if head else (*FROZEN, "head"))
    batch = make_batch(embedder, negatives=False, kind=kind)
    optimiser, _ = make_optimiser(embedder, stage.settings, 40)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss, _ = stage.backward_batch(batch)
        optimiser.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
    moved = {name for name, p in embedder.named_parameters() if not torch.equal(p, before[name])}
    assert any(f"{kind}_connector" in name for name in moved) and ("head.weight" in moved) == head
    assert all(f"{kind}_connector" in name or name.startswith("head.") for name in moved)


def test_the_feed_forward_layer_trains_with_the_head_and_rests_with_it():
    for freeze, trains in ((FROZEN, True), ((*FROZEN, "head"), False)):
        embedder = tiny_embedder(pooling="input_and_last", text_hidden=8)
        make_stage(embedder, freeze, dropout=0.3).backward_batch(make_batch(embedder, negatives=False))
        assert (embedder.text_layer.contract.weight.grad is not None) == trains
        assert embedder.text_layer.dropout.p == (0.3 if trains else 0.0)


def test_a_mediums_output_half_is_the_mean_over_all_processes(monkeypatch):
    """The mean of this process's own texts alone would train otherwise than one process with the whole batch does."""
    embedder = tiny_embedder(pooling="input_and_last")
    stage, batch, seen = make_stage(embedder), make_batch(embedder, negatives=False), []
    monkeypatch.setattr(align, "gather_rows", lambda rows, group: torch.cat([rows, rows + 2]))
    media = stage._media_vectors
    monkeypatch.setattr(stage, "_media_vectors", lambda batch, output: seen.append(output) or media(batch, output))
    stage.backward_batch(batch)
    own = embedder.pool(batch.positive)[:, -embedder.backbone.width :].mean(0)
    torch.testing.assert_close(seen, [own + 1])


def test_a_teacher_takes_the_place_of_the_labels_of_its_task(tmp_path):
    embedder = tiny_embedder(pooling="input_and_last")
    batch = make_batch(embedder, negatives=False)
    ids = torch.cat([batch.query_ids, batch.positive_ids]).unique()
    save_file({"ids": ids, "vectors": torch.randn(len(ids), 64).half()}, tmp_path / f"{batch.task}.safetensors")
    stage = make_stage(embedder, teacher=str(tmp_path))
    optimiser, _ = make_optimiser(embedder, stage.settings, 40)
    losses, agreement = [], []
    for _ in range(40):
        optimiser.zero_grad()
        loss, report = stage.backward_batch(batch)
        optimiser.step()
        losses.append(float(loss))
        agreement.append(float(report["agreement"]))
    assert losses[-1] < 0.5 * losses[0] and agreement[-1] > agreement[0]
    batch.task = "another"
    assert "accuracy" in stage.backward_batch(batch)[1]


def test_a_teacher_of_no_drawn_task_and_several_processes_are_refused(tmp_path, monkeypatch):
    save_file({"ids": torch.tensor([1]), "vectors": torch.ones(1, 2)}, tmp_path / "speech.safetensors")
    stage = make_stage(tiny_embedder(pooling="input_and_last"), teacher=str(tmp_path))
    stage._trainer = SimpleNamespace(datamodule=SimpleNamespace(data={"speech": None}))
    stage._check_teacher()
    stage._trainer.datamodule.data = {"image_caption": None}
    with pytest.raises(ConfigError, match="teaches speech, and the mixture draws image_caption"):
        stage._check_teacher()
    monkeypatch.setattr(AlignStage, "group", object())
    with pytest.raises(ConfigError, match="not gathered over processes"):
        stage._check_teacher()


@pytest.mark.parametrize(("steps", "known"), [(5, 0), (6, 48)])
def test_texts_of_a_task_drawn_often_are_encoded_at_once(tmp_path, monkeypatch, steps, known):
    root = write_pairs(tmp_path / "made")
    embedder = tiny_embedder(pooling="input_and_last")
    data = CommonspaceDataModule(
        root, {"image_caption": {"batch_size": 8, "rate": 1.0}}, embedder.processor, seed=0, steps=steps
    )
    data.setup()
    stage = make_stage(embedder)
    stage._trainer = SimpleNamespace(datamodule=data)
    stage.on_fit_start()
    assert len(stage._texts) == known, "48 texts, 40 or 48 samples"
    if known:
        batch = next(iter(data.loader()))
        found = stage._text_vectors("image_caption", batch.positive_ids, batch.positive)
        torch.testing.assert_close(found, embedder.pool(batch.positive).detach(), atol=1e-5, rtol=1e-5)
        monkeypatch.setattr(embedder, "pool", None)
        stage._text_vectors("image_caption", batch.positive_ids, batch.positive)


def test_bad_records_do_not_stop_the_encoding_ahead(tmp_path, monkeypatch):
    root = write_pairs(tmp_path / "made")
    embedder = tiny_embedder(pooling="input_and_last")
    task = {"image_caption": {"batch_size": 8, "rate": 1.0}}

    def processor(content, **options):
        if content.parts[0].text == unwanted:
            raise ContentError("bad text")
        return embedder.processor(content, **options)

    data = CommonspaceDataModule(root, task, processor, seed=0, steps=6)
    data.setup()
    reader = data.data["image_caption"].reader
    unwanted = reader.read(5).positives[0].content.parts[0].text
    read = reader.read

    def reading(row):
        if row == 3:
            raise DataError("bad record")
        return read(row)

    monkeypatch.setattr(reader, "read", reading)
    stage = make_stage(embedder)
    stage._trainer = SimpleNamespace(datamodule=data)
    stage.on_fit_start()
    assert len(stage._texts) == 46


def test_what_the_head_sees_of_a_text_is_dropped_by_task():
    embedder = tiny_embedder(pooling="input_and_last")
    stage = make_stage(embedder, dropout=0.9, text_dropout=0.2, task_text_dropout={"speech": 0.5})
    embedder.pooled_mean_P.fill_(1.0)
    text_BP = torch.full((400, 64), 3.0)
    for task, share in (("speech", 0.5), ("image_caption", 0.2)):
        dropped = stage._dropped(task, text_BP)
        assert abs((dropped == 1).float().mean() - share) < 0.02
        torch.testing.assert_close(
            dropped[dropped != 1], torch.tensor(1 + 2 / (1 - share)).expand((dropped != 1).sum()), rtol=0, atol=0.01
        )


def test_texts_have_the_vectors_the_whole_model_gives_them():
    embedder = tiny_embedder(pooling="input_and_last")
    stage, batch = make_stage(embedder), make_batch(embedder, negatives=False)
    for _ in range(2):  # the second time from what was kept
        found = stage._text_vectors(batch.task, batch.positive_ids, batch.positive)
        torch.testing.assert_close(found, embedder.pool(batch.positive))


def test_pairs_of_texts_move_the_head_alone():
    embedder = tiny_embedder(pooling="input_and_last")
    stage, batch = make_stage(embedder), make_batch(embedder, negatives=False)
    batch.query, batch.query_ids = batch.positive[::-1], batch.positive_ids.flip(0)
    stage.backward_batch(batch)
    touched = {name for name, p in embedder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert touched and all(name.startswith("head.") for name in touched)


def test_a_medium_has_its_input_half_and_the_output_it_is_given():
    embedder = tiny_embedder(pooling="input_and_last")
    stage, batch = make_stage(embedder), make_batch(embedder, negatives=False)
    found = stage._media_vectors(batch, torch.arange(32.0))
    torch.testing.assert_close(found[:, :32], embedder.pool(batch.query)[:, :32])
    torch.testing.assert_close(found[:, 32:], torch.arange(32.0).expand(6, -1))


def test_the_mean_rows_of_features_say_what_all_of_them_do():
    embedder = tiny_embedder(pooling="input_and_last")

    def with_features(content, **options) -> Pieces:
        return Pieces(tuple(map(featured, embedder.processor(content, **options).pieces)))

    def featured(piece: Piece) -> Piece:
        if piece.kind == "image":
            rows = embedder.backbone.vision(piece.value[None], piece.tokens)[0]
        elif piece.kind == "audio":
            rows = embedder.backbone.audio(piece.value[None])[0][slice(*(piece.rows or (None, None)))]
        else:
            return piece
        return replace(piece, value=rows.detach().half(), is_feature=True, rows=None)

    contents = [Content(picture()), Content("a", picture(1), sound(1.5), "b"), Content(clip()), Content(sound(2.5))]
    whole, short = ([make(content) for content in contents] for make in (with_features, MeanRows(with_features)))
    for found, wanted in zip(embedder.backbone.summaries(short), embedder.backbone.summaries(whole), strict=True):
        torch.testing.assert_close(found, wanted)
    assert {len(piece.value) for pieces in short for piece in pieces.pieces if piece.is_feature} == {1}
    with pytest.raises(ConfigError, match="promise"):
        embedder.backbone(short)


def test_the_feed_forward_layer_may_have_a_dropout_of_its_own():
    embedder = tiny_embedder(pooling="input_and_last", text_hidden=16)
    make_stage(embedder, dropout=0.3, layer_dropout=0.1)
    assert embedder.text_layer.dropout.p == 0.1
    assert {connector.dropout.p for connector in embedder.backbone.connectors()} == {0.3}


def test_dropout_ends_with_the_stage():
    embedder = tiny_embedder(pooling="input_and_last")
    stage = make_stage(embedder, dropout=0.3)
    assert {connector.dropout.p for connector in embedder.backbone.connectors()} == {0.3}
    stage.on_train_end()
    assert {connector.dropout.p for connector in embedder.backbone.connectors()} == {0.0}


def test_what_cannot_be_aligned_is_refused():
    with pytest.raises(ConfigError, match="pooling mean has none"):
        make_stage(tiny_embedder())
    embedder = tiny_embedder(pooling="input_and_last")
    stage, batch = make_stage(embedder), make_batch(embedder, negatives=False)
    batch.query, batch.positive = batch.positive, batch.query
    with pytest.raises(ConfigError, match="to a text"):
        stage.backward_batch(batch)
    batch.query, batch.positive = [batch.positive[0], *batch.query[1:]], batch.query
    with pytest.raises(ConfigError, match="has no media and other queries have"):
        stage.backward_batch(batch)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("align", {"learning_rate": 1e-5, "tower_learning_rate": 0.0}, "trains no pretrained part"),
        ("align", {"learning_rate": 0.0}, "trains no pretrained part"),
        ("pretrain", {"teacher": "models/x"}, "read by align alone"),
        ("pretrain", {"text_dropout": 0.1}, "read by align alone"),
        ("pretrain", {"teacher_temperature": 0.2}, "no effect without"),
    ],
)
def test_options_that_would_do_nothing_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        StageSettings(name, steps=1, **options)
