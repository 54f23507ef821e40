"""Cached gradients equal plain ones, for every parameter, over a grid of what a stage may combine."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from commonspace.errors import ConfigError
from commonspace.models.adapters import Lora, attach
from commonspace.objectives.cosent import cosent_loss
from commonspace.objectives.distill import InBatchTeacher, in_batch_score_match
from commonspace.objectives.gradcache import cached_backward, token_chunks
from commonspace.objectives.matryoshka import matryoshka
from commonspace.objectives.nce import bidirectional_nce, nce_loss, pad_negatives
from commonspace.objectives.nce_options import NCEOptions
from commonspace.objectives.sigmoid import sigmoid_loss
from commonspace.objectives.spread import with_spread
from commonspace.objectives.temperature import Temperature

PAIRS, WIDTH, SIZE = 9, 16, 12


class Encoder(nn.Module):
    """Ragged lists of token ids -> vectors, with dropout and, if asked, non-reentrant checkpointing."""

    def __init__(self, dropout: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, WIDTH)
        self.first, self.second = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.norm, self.dropout = nn.LayerNorm(WIDTH), nn.Dropout(dropout)
        self.head = nn.Linear(WIDTH, SIZE)
        self.checkpointing = checkpointing

    def block(self, hidden_BLD: Tensor) -> Tensor:
        return self.norm(hidden_BLD + self.dropout(self.second(torch.relu(self.first(hidden_BLD)))))

    def forward(self, items: list[list[int]]) -> Tensor:
        longest = max(map(len, items))
        ids_BL = torch.tensor([item + [0] * (longest - len(item)) for item in items])
        hidden_BLD = self.dropout(self.embedding(ids_BL))
        if self.checkpointing:
            hidden_BLD = checkpoint(self.block, hidden_BLD, use_reentrant=False)
        else:
            hidden_BLD = self.block(hidden_BLD)
        mask_BL1 = (torch.arange(longest) < torch.tensor(list(map(len, items)))[:, None])[..., None]
        return self.head((hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1))


class Case:
    """An encoder, a learned temperature, ragged items with ragged negatives, and the loss over their vectors."""

    def __init__(self, dtype=torch.float64, dropout=0.0, mrl=False, negatives=False, lora=False, checkpointing=False):
        torch.manual_seed(3)
        self.encoder = Encoder(dropout, checkpointing).to(dtype)
        if lora:
            attach(self.encoder, Lora("first|second", rank=2, dropout=dropout, train="head.*"))
            for parameter in self.encoder.parameters():  # B starts at zero, which would leave A without gradient
                nn.init.normal_(parameter, std=0.3)
        self.temperature = Temperature(0.1, learned=True).to(dtype)
        generator = torch.Generator().manual_seed(4)
        self.counts = [2, 0, 1, 3, 0, 0, 1, 1, 2] if negatives else [0] * PAIRS
        total = 2 * PAIRS + sum(self.counts)
        lengths = torch.randint(1, 12, (total,), generator=generator).tolist()
        self.items = [torch.randint(1, 50, (length,), generator=generator).tolist() for length in lengths]
        self.loss = matryoshka(nce_loss, (4, SIZE)) if mrl else nce_loss
        self.ids = torch.tensor([0, 1, 2, 3, 1, 5, 6, 7, 8])

    def loss_fn(self, vectors_NE: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        query_BE, positive_BE, rest_ME = vectors_NE.split([PAIRS, PAIRS, sum(self.counts)])
        negative_BKE, mask_BK = pad_negatives(rest_ME, self.counts) if sum(self.counts) else (None, None)
        extra = {"negative_mask_BK": mask_BK, "options": NCEOptions(chunk_rows=4)}
        return self.loss(
            query_BE, positive_BE, negative_BKE, temperature=self.temperature(), positive_ids=self.ids, **extra
        )

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        named = [*self.encoder.named_parameters(), ("temperature", self.temperature.log_temperature)]
        return {name: parameter for name, parameter in named if parameter.requires_grad}

    def gradients(self) -> dict[str, Tensor | None]:
        found = {name: parameter.grad for name, parameter in self.parameters.items()}
        for parameter in self.parameters.values():
            parameter.grad = None
        return found

    def plain(self, chunks: list[list[int]]) -> tuple[Tensor, dict[str, Tensor | None]]:
        """The same chunks with all their graphs held, one backward pass."""
        torch.manual_seed(7)
        order = torch.tensor([i for chunk in chunks for i in chunk]).argsort()
        vectors_NE = torch.cat([self.encoder([self.items[i] for i in chunk]) for chunk in chunks])[order]
        loss, _ = self.loss_fn(vectors_NE)
        loss.backward()
        return loss.detach(), self.gradients()

    def cached(self, chunks: list[list[int]], **arguments) -> tuple[Tensor, dict[str, Tensor | None]]:
        torch.manual_seed(7)
        loss, self.report = cached_backward(self.encoder, self.items, chunks, self.loss_fn, **arguments)
        return loss, self.gradients()


FLAGS = ("mrl", "negatives", "lora", "checkpointing")
GRID = [dict(zip(FLAGS, values, strict=True)) for values in itertools.product([False, True], repeat=len(FLAGS))]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize("flags", GRID, ids=lambda flags: "+".join(name for name in flags if flags[name]) or "bare")
def test_cached_equals_plain_for_every_parameter(flags, dtype, tolerance, dropout):
    case = Case(dtype, dropout, **flags)
    chunks = token_chunks([len(item) for item in case.items], budget=30)
    assert len(chunks) > 3
    loss, expected = case.plain(chunks)
    cached_loss, found = case.cached(chunks)
    torch.testing.assert_close(cached_loss, loss, rtol=tolerance, atol=0)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        assert gradient.norm() > 0, f"{name}: the comparison would say nothing"
        error = (found[name] - gradient).norm() / gradient.norm()
        assert error < tolerance, f"{name}: {error}"
    assert case.report["chunks"] == len(chunks) and case.report["replay_error"] < tolerance


def in_batch(queries: Tensor, positives: Tensor, _: Tensor | None, *, temperature: Tensor, **__) -> tuple:
    teacher = torch.randn(PAIRS, PAIRS, generator=torch.Generator().manual_seed(5), dtype=queries.dtype)
    return in_batch_score_match(queries, positives, teacher=InBatchTeacher.of(teacher, 0.3), temperature=temperature)


def graded(queries: Tensor, positives: Tensor, _: Tensor | None, *, temperature: Tensor, **__) -> tuple:
    return cosent_loss(queries, positives, scores=torch.arange(PAIRS), temperature=temperature)


def nce_with(loss_fn: Callable, **options) -> Callable:
    return lambda *vectors, **given: loss_fn(*vectors, **{**given, "options": NCEOptions(**options)})


def sigmoid(*vectors: Tensor | None, options: NCEOptions, **given) -> tuple:
    return sigmoid_loss(*vectors, bias=-1.0, chunk_rows=options.chunk_rows, **given)


OBJECTIVES: dict[str, Callable] = {
    "same_tower": nce_with(nce_loss, same_tower="both", mask_margin=0.5),
    "hardness": nce_with(nce_loss, hardness_alpha=9.0, hardness_on="all", chunk_rows=2),
    "hard_hardness": nce_with(nce_loss, hardness_alpha=5.0),
    "share_negatives": nce_with(nce_loss, share_negatives=True, chunk_rows=5),
    "classification": nce_with(nce_loss, classification=True),
    "bidirectional": bidirectional_nce,
    "sigmoid": sigmoid,
    "spread": with_spread(nce_loss, 0.5),
    "in_batch": in_batch,
    "cosent": graded,
}


@pytest.mark.parametrize("mrl", [False, True])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_objective_is_cached_with_its_gradient(name, mrl):
    case = Case(dropout=0.2, negatives=True, lora=True, checkpointing=True)
    case.loss = matryoshka(OBJECTIVES[name], (4, SIZE)) if mrl else OBJECTIVES[name]
    chunks = token_chunks([len(item) for item in case.items], budget=30)
    loss, expected = case.plain(chunks)
    cached_loss, found = case.cached(chunks)
    torch.testing.assert_close(cached_loss, loss, rtol=1e-6, atol=0)
    for key, gradient in expected.items():
        assert gradient.norm() > 0, f"{key}: the comparison would say nothing"
        assert (found[key] - gradient).norm() < 1e-6 * gradient.norm(), key


def test_dropout_was_in_effect():
    """Guards the grid above: with another random state the plain gradient is another."""
    case = Case(dropout=0.3)
    chunks = token_chunks([len(item) for item in case.items], budget=30)
    _, first = case.plain(chunks)
    torch.manual_seed(8)
    cached_backward(case.encoder, case.items, chunks, case.loss_fn)
    assert (case.gradients()["head.weight"] - first["head.weight"]).norm() > 1e-2 * first["head.weight"].norm()


@pytest.mark.parametrize("chunks", [[list(range(18))], [[i] for i in range(18)], [[5, 17], [*range(5), *range(6, 17)]]])
def test_any_partition_gives_the_gradient_of_the_whole_batch(chunks):
    case = Case()
    _, expected = case.plain([list(range(18))])
    _, found = case.cached(chunks)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


def test_random_draws_after_it_go_on_as_after_the_first_pass():
    case = Case(dropout=0.3)
    chunks = token_chunks([len(item) for item in case.items], budget=30)
    case.plain(chunks)
    after_plain = torch.rand(3)
    case.cached(chunks)
    assert torch.equal(torch.rand(3), after_plain)


def test_under_autocast_weights_get_their_gradient():
    """Autocast keeps cast weights; torch before 2.10 reused those of the first pass, which had no graph."""
    case = Case(torch.float32)
    chunks = token_chunks([len(item) for item in case.items], budget=30)
    _, wide = case.plain(chunks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, expected = case.plain(chunks)
        _, found = case.cached(chunks)
    for name, gradient in expected.items():
        assert found[name] is not None and gradient.norm() > 0
        # Sums over chunks round in another order: bfloat16 against itself is as near as bfloat16 to float32.
        allowed = max(float((gradient - wide[name]).norm()), 1e-3 * float(gradient.norm()))
        assert (found[name] - gradient).norm() <= allowed, name


def test_scale_acts_once_and_gradients_accumulate():
    case = Case()
    chunks = token_chunks([len(item) for item in case.items], budget=30)
    _, expected = case.plain(chunks)
    for _ in range(2):  # two micro-steps of half the weight
        torch.manual_seed(7)
        cached_backward(case.encoder, case.items, chunks, case.loss_fn, backward=lambda loss: (loss / 2).backward())
    torch.testing.assert_close(case.gradients(), expected, rtol=1e-6, atol=1e-12)


def test_synchronises_once_in_the_last_pass_only():
    """`no_sync` surrounds every backward pass but the last, which also touches parameters of other chunks."""
    case = Case()
    entered, passes, inside = [], [], []

    class NoSync:
        def __enter__(self):
            inside.append(True)
            entered.append(True)

        def __exit__(self, *_):
            inside.pop()

    def record(loss: Tensor) -> None:
        passes.append(bool(inside))
        loss.backward()

    chunks = [[0, 1, 2], list(range(3, 10)), list(range(10, 18))]
    unused = nn.Parameter(torch.ones(2))
    frozen = nn.Parameter(torch.ones(2), requires_grad=False)
    case.cached(chunks, backward=record, replay=record, no_sync=NoSync, parameters=[unused, frozen])
    assert passes == [True, True, True, False] and len(entered) == 3
    assert torch.equal(unused.grad, torch.zeros(2)) and frozen.grad is None


def test_only_one_chunk_of_graph_is_alive():
    """Tensors kept for the backward pass: many chunks need what their largest needs, not the batch."""

    def most_kept(chunks: list[list[int]]) -> int:
        case, kept, most = Case(), [0], [0]

        def encode(items: list[list[int]]) -> Tensor:
            kept[0] = 0
            return case.encoder(items)

        def pack(tensor: Tensor) -> Tensor:
            kept[0] += tensor.numel()
            most[0] = max(most[0], kept[0])
            return tensor

        def without_counting(vectors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            kept[0] = -(10**9)
            return case.loss_fn(vectors)

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            cached_backward(encode, case.items, chunks, without_counting)
        return most[0]

    assert most_kept([[i] for i in range(18)]) < most_kept([list(range(18))]) / 3


def test_memory_grows_with_the_chunk_and_not_with_the_batch():
    """Twice, four and eight times the batch in chunks of one size: the graph alive stays what one chunk needs."""

    def most_kept(pairs: int) -> int:
        encoder, kept, most = Encoder(), [0], [0]
        items = [[1 + (i + j) % 49 for j in range(6)] for i in range(2 * pairs)]

        def encode(batch: list[list[int]]) -> Tensor:
            kept[0] = 0
            return encoder(batch)

        def pack(tensor: Tensor) -> Tensor:
            kept[0] += tensor.numel()
            most[0] = max(most[0], kept[0])
            return tensor

        def loss_fn(vectors_NE: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            kept[0] = -(10**9)  # the loss's own, linear in the batch when chunked, is held elsewhere
            return nce_loss(*vectors_NE.chunk(2), temperature=0.1, options=NCEOptions(chunk_rows=4))

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            cached_backward(encode, items, token_chunks([6] * len(items), budget=48), loss_fn)
        return most[0]

    least = most_kept(16)
    assert least > 0 and most_kept(32) == most_kept(128) == least


def test_frozen_parts_and_chunks_without_anything_to_train():
    """A chunk that reaches no trained parameter is passed over; a batch that reaches none is refused."""
    towers = nn.ModuleDict({"a": nn.Linear(3, 4), "b": nn.Linear(3, 4)})
    towers["b"].requires_grad_(False)
    items = [("a", torch.randn(3)) for _ in range(4)] + [("b", torch.randn(3)) for _ in range(4)]

    def encode(batch):
        return torch.stack([towers[name](value) for name, value in batch])

    def loss_fn(vectors):
        return nce_loss(vectors[:4], vectors[4:], temperature=0.1)

    loss_fn(encode(items))[0].backward()
    expected = towers["a"].weight.grad.clone()
    towers.zero_grad()
    cached_backward(encode, items, [[0, 1, 2, 3], [4, 5, 6, 7]], loss_fn)
    torch.testing.assert_close(towers["a"].weight.grad, expected)
    towers.requires_grad_(False)
    with pytest.raises(ConfigError, match="no vector depends"):
        cached_backward(encode, items, [list(range(8))], loss_fn)


def test_randomness_that_is_not_replayed_is_refused():
    case = Case()
    calls = itertools.count()

    def encode(items: list[list[int]]) -> Tensor:
        return case.encoder(items) * (1 + next(calls) % 3)

    with pytest.raises(ConfigError, match="second pass gave vectors"):
        cached_backward(encode, case.items, [list(range(9)), list(range(9, 18))], case.loss_fn)


@pytest.mark.parametrize("chunks", [[], [[0, 1]], [list(range(18)), []], [list(range(18)), [3]]])
def test_chunks_must_be_a_partition(chunks):
    case = Case()
    with pytest.raises(ConfigError, match="exactly once"):
        cached_backward(case.encoder, case.items, chunks, case.loss_fn)


def test_a_loss_that_ignores_the_vectors_is_refused():
    case = Case()
    with pytest.raises(ConfigError, match="does not depend on the vectors"):
        cached_backward(case.encoder, case.items, [list(range(18))], lambda v: (case.temperature(), {}))


def test_token_chunks_fill_the_budget_and_never_pass_it():
    tokens = [3, 9, 1, 4, 4, 20, 2, 9]
    for budget, padded in itertools.product([1, 5, 9, 18, 20, 100], [True, False]):
        chunks = token_chunks(tokens, budget, padded)
        assert sorted(i for chunk in chunks for i in chunk) == list(range(8))
        costs = [cost(tokens, chunk, padded) for chunk in chunks]
        assert all(c <= budget or len(chunk) == 1 for c, chunk in zip(costs, chunks, strict=True))
        for chunk, following in itertools.pairwise(chunks):  # greedy: the next item did not fit
            assert cost(tokens, [*chunk, following[0]], padded) > budget
        lengths = [tokens[i] for chunk in chunks for i in chunk]
        assert lengths == sorted(tokens, reverse=True)
    assert token_chunks([], 10) == []
    with pytest.raises(ConfigError, match="at least 1"):
        token_chunks(tokens, 0)


def cost(tokens: list[int], chunk: list[int], padded: bool) -> int:
    chosen = [tokens[i] for i in chunk]
    return max(chosen) * len(chosen) if padded else sum(chosen)
