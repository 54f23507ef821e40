"""The text backbone trained by sentence-transformers: its trainer, its ranking loss with mined negatives, its sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from commonspace.content import Content
from commonspace.data.negatives import NegativeLists, list_file, read_negatives
from commonspace.data.sample import Variant
from commonspace.data.shards import ShardReader
from commonspace.errors import DataError
from commonspace.evaluation.frozen import texts_of
from commonspace.evaluation.rivals import SentenceTransformerRival
from commonspace.evaluation.suite import build_suite
from commonspace.models.device import best_device
from commonspace.models.precision import resolve_precision
from commonspace.rivals.tries import Given, Try, best_of, dev_score_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Row = dict[str, str]  # anchor, positive, and where there is one negative


def train_sentence_transformers(options: Mapping[str, Any], given: Given, folder: Path) -> list[Try]:
    """Train the backbone as `configs/rival/sentence_transformers.yaml` says, save it to `folder`; returns the tries."""
    rival = SentenceTransformerRival(given.pretrained(options["text"]), options["prompts"])
    rows = drawn_rows(options, given, rival.model)
    dev = dev_score_of(build_suite(given.data, "dev", options["tasks"], given.dev_limit))

    def fit(rate: float) -> None:
        fit_once(rival.model, rows, options, rate, given.seed)

    tried = best_of(rival.model, options["learning_rates"], fit, lambda: dev(rival), "whole", given.seed)
    rival.model.save_pretrained(str(folder), create_model_card=False)
    return tried


def drawn_rows(options: Mapping[str, Any], given: Given, model: SentenceTransformer) -> dict[str, list[Row]]:
    """{task, or "task, negatives": rows}, drawn at random, none twice, until each task has its share of the budget.

    Rows with a mined negative stand apart, for a batch has the same columns in every row. Raises DataError where a task
    has no rows, and where `negatives` is a folder without a list for any task.
    """
    rows: dict[str, list[Row]] = defaultdict(list)
    readers = {task: ShardReader(given.data / task, "train") for task in options["tasks"]}
    lists = {task: _negatives(options["negatives"], reader) for task, reader in readers.items()}
    if options["negatives"] and not any(lists.values()):
        raise DataError(f"{options['negatives']}: has no list; run `commonspace mine`, or set rival.negatives=null")
    for task, reader in readers.items():
        used, random = 0, np.random.default_rng(given.seed)
        for number in random.permutation(given.rows(reader)):
            row = _row(reader, int(number), lists[task], random)
            if not all(row.values()):
                continue  # no text on one side
            used += sum(_tokens(model, text) for text in row.values())
            rows[f"{task}, negatives" if "negative" in row else task].append(row)
            if used >= options["token_budget"] / len(readers):
                break
        if not used:
            raise DataError(f"{reader.folder}: no training row has text on both sides; leave {task} out of rival.tasks")
    return dict(rows)


def _negatives(folder: str | None, reader: ShardReader) -> NegativeLists | None:
    path = Path(folder) / list_file(reader.task) if folder else None
    return read_negatives(path, reader) if path and path.is_file() else None


def _row(reader: ShardReader, number: int, negatives: NegativeLists | None, random: np.random.Generator) -> Row:
    record = reader.read(number)
    row = {"anchor": _drawn(record.queries, random), "positive": _drawn(record.positives, random)}
    if negatives and len(found := negatives.of(number)):
        row["negative"] = _text(reader.read(int(found[0])).positives[0].content)
    return row


def _drawn(variants: tuple[Variant, ...], random: np.random.Generator) -> str:
    return _text(variants[random.integers(len(variants))].content)


def _text(content: Content) -> str:
    return "\n".join(texts_of(content))


def _tokens(model: SentenceTransformer, text: str) -> int:
    return min(len(model.tokenizer(text)["input_ids"]), model.max_seq_length or len(text))


def fit_once(
    model: SentenceTransformer, rows: Mapping[str, list[Row]], options: Mapping[str, Any], rate: float, seed: int
) -> None:
    """One pass over the rows by the library's trainer; a batch has rows of one task, none of them twice."""
    from datasets import Dataset, DatasetDict
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers, MultiDatasetBatchSamplers

    prompts = {
        "anchor": options["prompts"]["query"],
        "positive": options["prompts"]["document"],
        "negative": options["prompts"]["document"],
    }
    in_bf16 = resolve_precision(options["precision"]) == "bf16-mixed"
    with TemporaryDirectory(prefix="rival-") as temporary:
        arguments = SentenceTransformerTrainingArguments(
            temporary, num_train_epochs=1, per_device_train_batch_size=options["batch_size"], learning_rate=rate,
            warmup_steps=options["warmup"], bf16=in_bf16, use_cpu=best_device() == "cpu",
            batch_sampler=BatchSamplers.NO_DUPLICATES, prompts=prompts, seed=seed, save_strategy="no",
            multi_dataset_batch_sampler=MultiDatasetBatchSamplers.PROPORTIONAL, report_to="none", logging_steps=1,
        )  # fmt: skip
        data = DatasetDict({name: Dataset.from_list(some) for name, some in rows.items()})
        SentenceTransformerTrainer(model, arguments, train_dataset=data, loss=loss_of(model, options)).train()


def loss_of(model: SentenceTransformer, options: Mapping[str, Any]) -> Any:
    """The library's ranking loss, both ways, by gradient caching, at every Matryoshka size."""
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MatryoshkaLoss,
    )

    ranking = CachedMultipleNegativesRankingLoss(
        model,
        scale=options["scale"],
        mini_batch_size=options["mini_batch_size"],
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    return MatryoshkaLoss(model, ranking, options["matryoshka_sizes"])
