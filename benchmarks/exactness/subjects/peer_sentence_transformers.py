"""sentence-transformers: its ranking losses over processes, its cached losses and its trainer, as installed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.exactness.resume import STEPS
from benchmarks.exactness.subject import Gathering, Gradients, Subject, Trace
from benchmarks.exactness.subjects.own import PAIRS, TEMPERATURE, both_ways, ranking
from benchmarks.exactness.toy import SIZE, contents, gradients, make_encoder


class Model(nn.Sequential):
    """An encoder in the form that the losses call, and look into."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": self[0](features["input_ids"])}

    def get_embedding_dimension(self) -> int:
        return SIZE


def columns(query: Tensor, positive: Tensor, negative_BKL: Tensor | None) -> list[dict[str, Tensor]]:
    negatives = [] if negative_BKL is None else negative_BKL.unbind(1)
    return [{"input_ids": side, "attention_mask": torch.ones_like(side)} for side in (query, positive, *negatives)]


def gathered(kind: str, options: dict, hard: bool, encoder, query, positive, negative, rank, world) -> Tensor:
    from sentence_transformers.sentence_transformer import losses

    extra = {"mini_batch_size": 2} if kind.startswith("Cached") else {}
    loss = getattr(losses, kind)(Model(encoder), 1 / TEMPERATURE, gather_across_devices=True, **options, **extra)
    value = loss(columns(query, positive, negative if hard else None), None)
    return 2 * value if options else value  # the mean of two directions


_BOTH = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
GATHERS = {
    f"{kind}, {what}": Gathering(partial(gathered, kind, options, not options), reference)
    for kind in ("MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss")
    for what, options, reference in (
        ("hard negatives", {}, partial(ranking, hard="all")),
        ("both directions", _BOTH, both_ways),
    )
}


def caching(flags: frozenset[str]) -> tuple[Gradients, Gradients]:
    """Mini-batches of three; the plain pass runs the same ones, in their order, with all their graphs held."""
    from sentence_transformers.sentence_transformer import losses

    query, positive, *negatives = contents(4 if "negatives" in flags else 2, PAIRS)
    features = columns(query, positive, torch.stack(negatives, 1) if negatives else None)
    plain, cached = Model(make_encoder(flags)), Model(make_encoder(flags))
    ranking_loss = losses.MultipleNegativesRankingLoss(plain, 1 / TEMPERATURE)
    chunked = losses.CachedMultipleNegativesRankingLoss(plain, 1 / TEMPERATURE, mini_batch_size=3)
    torch.manual_seed(7)
    passes = [list(chunked.embed_minibatch_iter(column, True, False)) for column in features]
    vectors = [torch.cat([rows for rows, _ in column]) for column in passes]
    sizes = (4, SIZE) if "mrl" in flags else (SIZE,)
    sum(ranking_loss.compute_loss_from_embeddings([v[:, :size] for v in vectors], None) for size in sizes).backward()

    loss = losses.CachedMultipleNegativesRankingLoss(cached, 1 / TEMPERATURE, mini_batch_size=3)
    loss = losses.MatryoshkaLoss(cached, loss, list(sizes)) if "mrl" in flags else loss
    torch.manual_seed(7)
    loss(columns(query, positive, torch.stack(negatives, 1) if negatives else None), None).backward()
    return gradients(plain), gradients(cached)


def tiny_model(folder: Path):
    """A SentenceTransformer of two BERT layers with dropout, random, from a folder of its own making."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "asks", "answers", "one", "two", *map(str, range(40))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    ).save_pretrained(folder)
    return SentenceTransformer(modules=[Transformer(str(folder)), Pooling(16)], device="cpu")


def resume(folder: Path, stop: int | None) -> Trace:
    """Two data sets in proportion, batches without duplicates; stopped by a callback that has saved."""
    batches: list[list[str]] = []
    if stop is not None:
        _train(folder, batches, stop)
    return Trace(batches, _train(folder, batches, None))


def _train(folder: Path, batches: list[list[str]], stop: int | None) -> Gradients:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses
    from transformers import TrainerCallback

    model = tiny_model(folder / "model")

    class Recorded(losses.MultipleNegativesRankingLoss):
        def forward(self, features, labels):
            batches.append([" ".join(map(str, row)) for row in next(iter(features))["input_ids"].tolist()])
            return super().forward(features, labels)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == stop:
                control.should_save = control.should_training_stop = True

    data = {
        task: Dataset.from_dict(
            {"anchor": [f"{task} {n} asks" for n in range(40)], "positive": [f"{task} {n} answers" for n in range(40)]}
        )
        for task in ("one", "two")
    }
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "run"), max_steps=STEPS, per_device_train_batch_size=8, learning_rate=1e-2, seed=3,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, logging_strategy="no",
        batch_sampler="no_duplicates", multi_dataset_batch_sampler="proportional",
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=data, loss=Recorded(model), callbacks=[Stop()]
    )
    saved = sorted((folder / "run").glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=str(saved[-1]) if saved else None)
    return {name: tensor.detach().double() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


SUBJECT = Subject("sentence-transformers", GATHERS, caching, resume)
