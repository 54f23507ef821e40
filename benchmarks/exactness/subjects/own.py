"""This project under the checks: its objectives, its caching, and its mixture in a plain loop."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.exactness.resume import STEPS
from benchmarks.exactness.subject import Gathering, Gradients, Subject, Trace
from benchmarks.exactness.toy import LENGTH, VOCABULARY, contents, gradients, make_encoder
from commonspace.content import Content
from commonspace.data.loader import MixtureDataset, MixtureLoader, TaskData
from commonspace.data.mixture import Mixture, TaskPlan
from commonspace.data.sample import Record, Variant
from commonspace.data.shard_writer import ShardWriter
from commonspace.data.shards import ShardReader
from commonspace.objectives.gradcache import cached_backward
from commonspace.objectives.matryoshka import matryoshka
from commonspace.objectives.nce import bidirectional_nce, nce_loss
from commonspace.objectives.nce_options import NCEOptions
from commonspace.objectives.sigmoid import sigmoid_loss
from commonspace.objectives.step import GradientStep
from commonspace.processing.pieces import Piece, Pieces

TEMPERATURE, PAIRS = 0.1, 8


def ranking(query_NE: Tensor, positive_NE: Tensor, negative_NKE: Tensor, *, hard: str) -> Tensor:
    """Cross-entropy of each positive among all positives and its own, all, or (`hard="none"`) no hard negatives."""
    query_NE, positive_NE, negative_NKE = (F.normalize(part, dim=-1) for part in (query_NE, positive_NE, negative_NKE))
    logits = [query_NE @ positive_NE.T]
    if hard == "own":
        logits.append((query_NE[:, None] * negative_NKE).sum(-1))
    if hard == "all":
        logits.append(query_NE @ negative_NKE.flatten(0, 1).T)
    return F.cross_entropy(torch.cat(logits, 1) / TEMPERATURE, torch.arange(len(query_NE)))


def both_ways(query_NE: Tensor, positive_NE: Tensor, negative_NKE: Tensor) -> Tensor:
    """The sum of both directions, without hard negatives."""
    pairs = (query_NE, positive_NE), (positive_NE, query_NE)
    return sum(ranking(*pair, negative_NKE, hard="none") for pair in pairs)


def all_pairs(query_NE: Tensor, positive_NE: Tensor, negative_NKE: Tensor) -> Tensor:
    """SigLIP's loss with a bias of -1."""
    logits = F.normalize(query_NE, dim=-1) @ F.normalize(positive_NE, dim=-1).T / TEMPERATURE - 1
    return -F.logsigmoid(logits * (2 * torch.eye(len(logits)) - 1)).sum() / len(logits)


def gathered(loss_fn, encoder: nn.Module, query, positive, negative_BKF, rank: int, world: int) -> Tensor:
    negatives = [encoder(negative_BKF[:, k]) for k in range(negative_BKF.shape[1])]
    vectors = encoder(query), encoder(positive), torch.stack(negatives, 1)
    return loss_fn(*vectors, temperature=TEMPERATURE, group=dist.group.WORLD)[0]


def without_negatives(loss_fn, query_BE: Tensor, positive_BE: Tensor, _: Tensor, **arguments):
    return loss_fn(query_BE, positive_BE, **arguments)


_SHARED = partial(nce_loss, options=NCEOptions(share_negatives=True, chunk_rows=3))
GATHERS = {
    "nce, own hard negatives": Gathering(partial(gathered, nce_loss), partial(ranking, hard="own")),
    "nce, share_negatives, chunked": Gathering(partial(gathered, _SHARED), partial(ranking, hard="all")),
    "nce, both directions": Gathering(partial(gathered, partial(without_negatives, bidirectional_nce)), both_ways),
    "sigmoid": Gathering(partial(gathered, partial(without_negatives, partial(sigmoid_loss, bias=-1.0))), all_pairs),
}


def caching(flags: frozenset[str]) -> tuple[Gradients, Gradients]:
    """Queries, positives and negatives in chunks of five contents that ignore those borders."""
    columns = contents(4 if "negatives" in flags else 2, PAIRS)
    items = list(columns.flatten(0, 1))
    chunks = [list(range(first, min(first + 5, len(items)))) for first in range(0, len(items), 5)]
    loss_fn = matryoshka(nce_loss, (4, 8)) if "mrl" in flags else nce_loss

    def loss(vectors_NE: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        query, positive, *negatives = vectors_NE.split(PAIRS)
        stacked = torch.stack(negatives, 1) if negatives else None
        return loss_fn(query, positive, stacked, temperature=TEMPERATURE)

    plain, cached = make_encoder(flags), make_encoder(flags)
    torch.manual_seed(7)
    loss(torch.cat([plain(torch.stack([items[i] for i in chunk])) for chunk in chunks]))[0].backward()
    torch.manual_seed(7)
    cached_backward(lambda some: cached(torch.stack(some)), items, chunks, loss)
    return gradients(plain), gradients(cached)


def to_pieces(content: Content, task: str | None = None, role: str | None = None) -> Pieces:
    """A text's words as ids, cut or filled to one length."""
    ids = [sum(word.encode()) % VOCABULARY for word in content.parts[0].text.split()]
    return Pieces((Piece("text", torch.tensor((ids * LENGTH)[:LENGTH]), LENGTH),))


def resume(folder: Path, stop: int | None) -> Trace:
    """Two tasks at their rates, AdamW, dropout; one file holds all there is to go on from."""
    for task in ("one", "two"):
        with ShardWriter(folder / task, task, "train", {"made": "CC0-1.0"}) as writer:
            for n in range(40):
                sides = (Variant(Content(f"{task} {n} asks")),), (Variant(Content(f"{task} {n} answers")),)
                writer.write(Record(f"{task}{n}", task, "made", f"{task} {n}", *sides))
    batches: list[list[str]] = []
    if stop is not None:
        _train(folder, batches, stop)
    return Trace(batches, _train(folder, batches, STEPS))


def _train(folder: Path, batches: list[list[str]], until: int) -> Gradients:
    readers = {task: ShardReader(folder / task, "train") for task in ("one", "two")}
    plans = [TaskPlan(task, len(reader), 8, fingerprint=reader.fingerprint) for task, reader in readers.items()]
    data = MixtureDataset({task: TaskData(reader) for task, reader in readers.items()}, to_pieces)
    loader = MixtureLoader(data, Mixture(plans, seed=3, steps=STEPS))
    encoder = make_encoder(frozenset({"dropout"}))
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-2)
    step = GradientStep(optimiser, encoder.parameters(), clip_norm=1.0)
    saved = folder / "last.pt"
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        encoder.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        loader.load_state_dict(state["loader"])
        torch.set_rng_state(state["random"])
    for batch in loader:
        items = [content.pieces[0].value for content in (*batch.query, *batch.positive)]
        chunks = [list(range(8)), list(range(8, 16))]
        ids = {"query_ids": batch.query_ids, "positive_ids": batch.positive_ids}
        loss_fn = partial(nce_loss, temperature=TEMPERATURE, **ids)
        cached_backward(lambda some: encoder(torch.stack(some)), items, chunks, lambda v, f=loss_fn: f(*v.chunk(2)))
        step()
        batches.append([source.rpartition(":")[2] for source in batch.sources])
        state = {"model": encoder.state_dict(), "optimiser": optimiser.state_dict(), "random": torch.get_rng_state()}
        torch.save(state | {"loader": loader.state_dict()}, saved)
        if batch.step + 1 == until:
            break
    return {name: tensor.detach() for name, tensor in encoder.state_dict().items()}


SUBJECT = Subject("commonspace", GATHERS, caching, resume)
