"""Equations 2 and 3 against loops written from the paper, against torch and open_clip."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from commonspace.errors import ConfigError
from commonspace.objectives.nce import bidirectional_nce, nce_loss, pad_negative_ids, pad_negatives
from commonspace.objectives.nce_options import PAPER, NCEOptions

TEMPERATURE = 0.07
B, K, E = 7, 3, 12


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "query": torch.randn(B, E, generator=generator, dtype=torch.float64),
        "positive": torch.randn(B, E, generator=generator, dtype=torch.float64),
        "negative": torch.randn(B, K, E, generator=generator, dtype=torch.float64),
        "query_ids": torch.tensor([1, 2, 3, 4, 5, 1, 7]),  # rows 0 and 5 share their query
        "positive_ids": torch.tensor([11, 12, 13, 12, 15, 16, 12]),  # rows 1, 3 and 6 their target
        "mask": torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 0], [1, 1, 1]]).bool(),
    }


def cosine(a: Tensor, b: Tensor) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a)) / math.sqrt(sum(float(y) ** 2 for y in b))


def loop_loss(batch: dict[str, Tensor], options: NCEOptions = PAPER, mask: Tensor | None = None) -> float:
    """Equation 2, term by term in plain Python; slow and literal on purpose."""
    q, p, n = batch["query"], batch["positive"], batch.get("negative")
    q_ids, p_ids = batch.get("query_ids"), batch.get("positive_ids")
    total = 0.0
    for i in range(len(q)):
        s_positive = cosine(q[i], p[i])

        def term(s: float, hard: bool, s_positive: float = s_positive) -> float:
            if options.mask_margin is not None and s > s_positive + options.mask_margin:
                return 0.0
            weighted = hard or options.hardness_on == "all"
            weight = math.exp(options.hardness_alpha * s) if weighted else 1.0
            return weight * math.exp(s / TEMPERATURE)

        denominator = math.exp(s_positive / TEMPERATURE)
        for j in range(len(q)):
            same = (
                j == i or (q_ids is not None and q_ids[i] == q_ids[j]) or (p_ids is not None and p_ids[i] == p_ids[j])
            )
            if not same and not options.classification:
                denominator += term(cosine(q[i], p[j]), False)
                if options.same_tower in ("query", "both"):
                    denominator += term(cosine(q[i], q[j]), False)
                if options.same_tower in ("positive", "both"):
                    denominator += term(cosine(p[i], p[j]), False)
            if n is not None and (j == i or options.share_negatives):
                for k in range(n.shape[1]):
                    if mask is None or mask[j, k]:
                        denominator += term(cosine(q[i], n[j, k]), True)
        total += -math.log(math.exp(s_positive / TEMPERATURE) / denominator)
    return total / len(q)


def loss_of(batch: dict[str, Tensor], options: NCEOptions = PAPER, mask: Tensor | None = None) -> Tensor:
    return nce_loss(
        batch["query"],
        batch["positive"],
        batch.get("negative"),
        temperature=TEMPERATURE,
        query_ids=batch.get("query_ids"),
        positive_ids=batch.get("positive_ids"),
        negative_mask_BK=mask,
        options=options,
    )[0]


OPTIONS = [
    NCEOptions(),
    NCEOptions(same_tower="query"),
    NCEOptions(same_tower="positive"),
    NCEOptions(same_tower="both", mask_margin=0.1),
    NCEOptions(mask_margin=0.0),
    NCEOptions(hardness_alpha=5.0),
    NCEOptions(hardness_alpha=9.0, hardness_on="all", same_tower="query"),
    NCEOptions(share_negatives=True),
    NCEOptions(share_negatives=True, hardness_alpha=2.0, mask_margin=0.3),
    NCEOptions(classification=True),
    NCEOptions(classification=True, hardness_alpha=3.0),
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_a_literal_loop(batch, options, masked):
    mask = batch["mask"] if masked else None
    assert loss_of(batch, options, mask).item() == pytest.approx(loop_loss(batch, options, mask), abs=1e-10)


def test_each_option_changes_the_loss(batch):
    values = [loss_of(batch, options).item() for options in OPTIONS]
    assert len({round(value, 9) for value in values}) == len(values)


def test_without_duplicates_and_negatives_is_cross_entropy(batch):
    query, positive = batch["query"].requires_grad_(), batch["positive"].requires_grad_()
    loss, report = nce_loss(query, positive, temperature=TEMPERATURE)
    logits = F.normalize(query) @ F.normalize(positive).T / TEMPERATURE
    reference = F.cross_entropy(logits, torch.arange(B))
    torch.testing.assert_close(loss, reference)
    torch.testing.assert_close(
        torch.autograd.grad(loss, [query, positive]), torch.autograd.grad(reference, [query, positive])
    )
    assert report["accuracy"] == (logits.argmax(1) == torch.arange(B)).double().mean()
    assert report["negatives"] == B - 1 and report["masked"] == 0


def test_a_repeated_target_is_masked_and_nothing_else_changes(batch):
    """Row 4's target becomes row 2's: their two off-diagonal terms vanish, every other term stays what it was."""
    query, positive = batch["query"], batch["positive"].clone()
    positive[4] = positive[2]
    ids = torch.tensor([1, 2, 3, 4, 3, 6, 7])
    logits = F.normalize(query) @ F.normalize(positive).T / TEMPERATURE
    logits[2, 4] = logits[4, 2] = -math.inf
    loss, report = nce_loss(query, positive, temperature=TEMPERATURE, positive_ids=ids)
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.arange(B)))
    assert report["masked"].item() == pytest.approx(2 / (B * (B - 1)))


def test_the_positive_counts_once_even_if_all_else_is_masked(batch):
    loss, report = nce_loss(
        batch["query"], batch["positive"], temperature=TEMPERATURE, positive_ids=torch.zeros(B, dtype=torch.int64)
    )
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert report["negatives"] == 0 and report["masked"] == 1 and report["accuracy"] == 1


def test_a_hard_negative_counts_in_its_own_row_only(batch):
    per_row = [nce_row_losses(batch, shift) for shift in (0.0, 1.0)]
    changed = (per_row[0] - per_row[1]).abs() > 1e-12
    assert changed.tolist() == [False, False, True, False, False, False, False]


def nce_row_losses(batch: dict[str, Tensor], shift: float) -> Tensor:
    """Losses row by row: the gradient of the mean with respect to each row's 1/t, made by one call per row."""
    negative = batch["negative"].clone()
    negative[2, 0] += shift
    rows = []
    for row in range(B):
        mask = torch.zeros(B, K, dtype=torch.bool)
        mask[2] = True
        temperature = torch.full((B,), 1e6, dtype=torch.float64)  # other rows: all terms equal, whatever the vectors
        temperature[row] = TEMPERATURE
        rows.append(
            nce_loss(batch["query"], batch["positive"], negative, temperature=temperature, negative_mask_BK=mask)[0]
        )
    flat = nce_loss(batch["query"], batch["positive"], negative, temperature=1e6, negative_mask_BK=mask)[0]
    return (torch.stack(rows) - flat) * B


def test_a_shared_negative_reaches_every_row_but_the_one_it_is_the_positive_of(batch):
    ids = torch.full((B, K), -1)
    ids[2, 0] = batch["positive_ids"][0]
    arguments = {"temperature": TEMPERATURE, "options": NCEOptions(share_negatives=True)}
    arguments |= {"positive_ids": batch["positive_ids"], "negative_ids_BK": ids}
    negative = batch["negative"].requires_grad_()
    query = batch["query"].requires_grad_()
    loss, report = nce_loss(query, batch["positive"], negative, **arguments)
    in_batch = B * (B - 1) - 6  # rows 1, 3, 6 share a target
    assert report["negatives"].item() == pytest.approx((in_batch + B * B * K - 1) / B)
    loss.backward()
    assert (negative.grad.norm(dim=-1) > 0).all()


def test_a_row_with_fewer_negatives_equals_the_row_alone(batch):
    """Masked places hold whatever: zeros, or values far away; the loss and the gradient do not see them."""
    losses = []
    for filler in (0.0, 1e4):
        negative = torch.where(batch["mask"][..., None], batch["negative"], filler).requires_grad_()
        loss, _ = nce_loss(
            batch["query"], batch["positive"], negative, temperature=TEMPERATURE, negative_mask_BK=batch["mask"]
        )
        loss.backward()
        assert (negative.grad[~batch["mask"]] == 0).all() and (negative.grad[batch["mask"]] != 0).any()
        losses.append(loss.item())
    assert losses[0] == losses[1]


def test_pad_negatives_keeps_every_negative_in_its_row():
    vectors = torch.randn(6, E, requires_grad=True)
    negative_BKE, mask_BK = pad_negatives(vectors, [2, 0, 1, 3])
    assert mask_BK.tolist() == [[True, True, False], [False] * 3, [True, False, False], [True] * 3]
    torch.testing.assert_close(negative_BKE[mask_BK], vectors)
    assert (negative_BKE[~mask_BK] == 0).all()
    (negative_BKE * torch.arange(3)[:, None]).sum().backward()
    assert vectors.grad[:, 0].tolist() == [0, 1, 0, 0, 1, 2]
    with pytest.raises(ConfigError, match="add up to 5"):
        pad_negatives(vectors, [2, 3])
    empty, mask = pad_negatives(vectors[:0], [0, 0])
    assert empty.shape == (2, 0, E) and mask.shape == (2, 0)


def test_pad_negative_ids_lie_as_the_negatives_do():
    ids = pad_negative_ids([[5, 6], [], [7], [8, 9, -1]])
    _, mask_BK = pad_negatives(torch.randn(6, E), [2, 0, 1, 3])
    assert ids.dtype == torch.int64 and ids[mask_BK].tolist() == [5, 6, 7, 8, 9, -1] and ids.shape == mask_BK.shape
    assert pad_negative_ids([[], []]).shape == (2, 0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("chunk_rows", [1, 3, 7, 64])
def test_chunked_equals_whole(batch, options, chunk_rows):
    results = []
    for chunk in (None, chunk_rows):
        tensors = [batch[name].clone().requires_grad_() for name in ("query", "positive", "negative")]
        temperature = torch.tensor(TEMPERATURE, dtype=torch.float64, requires_grad=True)
        loss, report = nce_loss(
            *tensors,
            temperature=temperature,
            positive_ids=batch["positive_ids"],
            negative_mask_BK=batch["mask"],
            options=dataclasses.replace(options, chunk_rows=chunk),
        )
        gradients = torch.autograd.grad(loss, [*tensors, temperature])
        results.append((loss.detach(), *gradients, report))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_chunked_logits_take_memory_linear_in_the_batch():
    """Numbers kept for the backward pass: B*B with the whole matrix, a few times B*E with chunks."""

    def kept(size: int, chunk_rows: int | None) -> int:
        elements = []
        query, positive = torch.randn(2, size, 8, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: elements.append(t.numel()) or t, lambda t: t):
            nce_loss(query, positive, temperature=TEMPERATURE, options=NCEOptions(chunk_rows=chunk_rows))
        return sum(elements)

    assert kept(1024, None) > 1024 * 1024
    assert kept(1024, 32) < 2.2 * kept(512, 32) < 1024 * 1024 / 4


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_option_makes_chunks_keep_more_than_rows(options):
    """What is kept grows with the batch, not its square, in every option and both ways; hard negatives included."""

    def kept(size: int) -> int:
        elements = []
        query, positive = torch.randn(2, size, 8, requires_grad=True)
        negative = torch.randn(size, 2, 8, requires_grad=True)
        loss_fn = nce_loss if options.classification else bidirectional_nce
        chunked = dataclasses.replace(options, chunk_rows=32)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: elements.append(t.numel()) or t, lambda t: t):
            loss_fn(query, positive, negative, temperature=TEMPERATURE, options=chunked)
        return sum(elements)

    assert kept(512) < 2.2 * kept(256) < 512 * 512


def test_chunked_gradients_reach_a_learned_temperature_a_row(batch):
    results = []
    for chunk in (None, 3):
        temperature_B = torch.linspace(0.05, 0.5, B, dtype=torch.float64).requires_grad_()
        options = NCEOptions(chunk_rows=chunk, same_tower="both", mask_margin=0.5)
        loss, _ = bidirectional_nce(
            batch["query"], batch["positive"], batch["negative"], temperature=temperature_B, options=options
        )
        results.append(torch.autograd.grad(loss, temperature_B)[0])
    assert (results[0] != 0).all()
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_hardness_weights_pass_no_gradient(batch):
    """Weights computed apart and held constant give the same gradient."""
    alpha = 5.0
    query = batch["query"].requires_grad_()
    negative = batch["negative"]
    loss, _ = nce_loss(
        query, batch["positive"], negative, temperature=TEMPERATURE, options=NCEOptions(hardness_alpha=alpha)
    )
    q, p, n = F.normalize(query), F.normalize(batch["positive"]), F.normalize(negative, dim=-1)
    hard = torch.einsum("be,bke->bk", q, n)
    logits = torch.cat([q @ p.T / TEMPERATURE, hard / TEMPERATURE + alpha * hard.detach()], dim=1)
    reference = F.cross_entropy(logits, torch.arange(B))
    torch.testing.assert_close(torch.autograd.grad(loss, query), torch.autograd.grad(reference, query))


def test_one_temperature_a_row(batch):
    temperatures = torch.linspace(0.02, 0.5, B, dtype=torch.float64)
    loss, report = nce_loss(batch["query"], batch["positive"], temperature=temperatures)
    logits = F.normalize(batch["query"]) @ F.normalize(batch["positive"]).T / temperatures[:, None]
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.arange(B)))
    assert report["temperature"].item() == pytest.approx(temperatures.mean().item())


def test_both_directions_equal_the_two_tasks_and_open_clip(batch):
    from open_clip.loss import ClipLoss

    query, positive = F.normalize(batch["query"]), F.normalize(batch["positive"])
    loss, report = bidirectional_nce(query, positive, temperature=TEMPERATURE)
    clip = ClipLoss()(query, positive, logit_scale=torch.tensor(1 / TEMPERATURE, dtype=torch.float64))
    torch.testing.assert_close(loss, 2 * clip)
    ids = {"query_ids": batch["query_ids"], "positive_ids": batch["positive_ids"]}
    loss, report = bidirectional_nce(query, positive, batch["negative"], temperature=TEMPERATURE, **ids)
    forward, _ = nce_loss(query, positive, batch["negative"], temperature=TEMPERATURE, **ids)
    backward, _ = nce_loss(
        positive, query, temperature=TEMPERATURE, query_ids=ids["positive_ids"], positive_ids=ids["query_ids"]
    )
    torch.testing.assert_close(loss, forward + backward)
    assert report["loss"] == forward and report["reverse/loss"] == backward


def test_reverse_of_a_query_tower_term_is_the_positive_tower_term(batch):
    options = NCEOptions(same_tower="query", hardness_alpha=2.0, hardness_on="all")
    loss, _ = bidirectional_nce(batch["query"], batch["positive"], temperature=TEMPERATURE, options=options)
    mirrored = {"query": batch["positive"], "positive": batch["query"]}
    expected = loop_loss({"query": batch["query"], "positive": batch["positive"]}, options)
    expected += loop_loss(mirrored, dataclasses.replace(options, same_tower="positive"))
    assert loss.item() == pytest.approx(expected, abs=1e-10)


def test_shared_negatives_without_duplicates_are_cross_entropy_over_all_documents(batch):
    """The pool of sentence-transformers' MultipleNegativesRankingLoss: all positives, then all negatives."""
    documents = torch.cat([batch["positive"], batch["negative"].reshape(B * K, E)])
    logits = F.normalize(batch["query"]) @ F.normalize(documents).T / TEMPERATURE
    loss, _ = nce_loss(
        batch["query"],
        batch["positive"],
        batch["negative"],
        temperature=TEMPERATURE,
        options=NCEOptions(share_negatives=True),
    )
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.arange(B)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_are_float32_for_narrow_vectors_and_under_autocast(batch, dtype):
    query, positive = batch["query"].to(dtype), batch["positive"].to(dtype)
    expected, _ = nce_loss(query.double(), positive.double(), temperature=0.01)
    plain, _ = nce_loss(query, positive, temperature=0.01)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, _ = nce_loss(query, positive, temperature=0.01)
    assert plain.dtype == inside.dtype == torch.float32
    assert plain.item() == pytest.approx(expected.item(), rel=1e-4) and plain == inside


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [1e-8, 1e-4, 0.02, 1e3])
def test_never_nan(seed, temperature):
    generator = torch.Generator().manual_seed(seed)
    options = OPTIONS[seed * 2 % len(OPTIONS)]
    size = 1 + seed * 3
    scale = 10.0 ** torch.randint(-15, 15, (size, 1), generator=generator)
    query = (torch.randn(size, 4, generator=generator) * scale).requires_grad_()
    positive = torch.cat([query.detach()[:1], torch.randn(size - 1, 4, generator=generator)]).requires_grad_()
    negative = torch.randn(size, 2, 4, generator=generator).requires_grad_()
    mask = torch.rand(size, 2, generator=generator) < 0.5
    ids = torch.randint(0, 3, (size,), generator=generator)
    loss, report = nce_loss(
        query, positive, negative, temperature=temperature, positive_ids=ids, negative_mask_BK=mask, options=options
    )
    loss.backward()
    tensors = [loss, *report.values(), query.grad, positive.grad, negative.grad]
    assert all(torch.isfinite(tensor).all() for tensor in tensors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"same_towers": "query"}, "unknown option same_towers"),
        ({"same_tower": "all"}, "same_tower=all is unknown"),
        ({"hardness_on": "easy"}, "hardness_on=easy is unknown"),
        ({"hardness_on": "all"}, "no effect with hardness_alpha=0"),
        ({"hardness_alpha": -1.0}, "at least 0"),
        ({"mask_margin": 2.0}, "lie in"),
        ({"chunk_rows": 0}, "at least 1"),
        ({"classification": True, "share_negatives": True}, "no effect"),
        ({"classification": True, "same_tower": "query"}, "no effect"),
    ],
)
def test_idle_and_unknown_options_are_refused_when_the_config_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        NCEOptions.from_config(options)


@pytest.mark.parametrize("options", [NCEOptions(share_negatives=True), NCEOptions(classification=True)], ids=str)
def test_options_on_negatives_need_negatives(batch, options):
    with pytest.raises(ConfigError, match="need negative_BKE"):
        nce_loss(batch["query"], batch["positive"], temperature=TEMPERATURE, options=options)
    loss, _ = nce_loss(
        batch["query"], batch["positive"], batch["negative"][:, :0], temperature=TEMPERATURE, options=options
    )
    assert loss.isfinite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "positive number"),
        ({"temperature": torch.ones(3)}, "one value or"),
        ({"negative_mask_BK": torch.ones(B, K, dtype=torch.bool)}, "which is missing"),
        ({"negative_BKE": torch.ones(B, E)}, r"\[B, K, E\]"),
        ({"negative_BKE": torch.ones(B, K, E), "negative_mask_BK": torch.ones(B, 1)}, r"\[B, K\] = "),
        ({"negative_BKE": torch.ones(B, K, E), "negative_ids_BK": torch.ones(B, K)}, "positive_ids, which are missing"),
        ({"positive_BE": torch.ones(B, E + 1)}, "must both be"),
    ],
)
def test_wrong_shapes_and_values_are_refused(batch, change, message):
    arguments = {"query_BE": batch["query"], "positive_BE": batch["positive"], "temperature": TEMPERATURE} | change
    with pytest.raises(ConfigError, match=message):
        nce_loss(**arguments)


@pytest.mark.parametrize(
    "options", [NCEOptions(), NCEOptions(hardness_alpha=3.0), NCEOptions(share_negatives=True)], ids=str
)
def test_hard_negatives_of_the_reverse_are_those_of_a_task_that_goes_back(batch, options):
    """Both ways with lists of both directions equals two tasks, each the other's reverse."""
    generator = torch.Generator().manual_seed(5)
    back = torch.randn(batch["negative"].shape, generator=generator, dtype=torch.float64)
    mask = ~batch["mask"]
    shared = {"temperature": TEMPERATURE, "options": options}
    ids = {"query_ids": batch["query_ids"], "positive_ids": batch["positive_ids"]}
    both, report = bidirectional_nce(
        batch["query"], batch["positive"], batch["negative"], back, negative_mask_BK=batch["mask"],
        reverse_negative_mask_BK=mask, **ids, **shared,
    )  # fmt: skip
    forward = nce_loss(
        batch["query"], batch["positive"], batch["negative"], negative_mask_BK=batch["mask"], **ids, **shared
    )[0]
    mirrored = {"query_ids": batch["positive_ids"], "positive_ids": batch["query_ids"]}
    backward = nce_loss(batch["positive"], batch["query"], back, negative_mask_BK=mask, **mirrored, **shared)[0]
    assert both.item() == pytest.approx((forward + backward).item(), abs=1e-12)
    without = bidirectional_nce(
        batch["query"], batch["positive"], batch["negative"], negative_mask_BK=batch["mask"], **ids, **shared
    )[0]
    assert without.item() < both.item() and report["reverse/loss"].item() == pytest.approx(backward.item())


def test_without_the_mask_a_repeated_target_is_a_wrong_one():
    """Then equation 2 is plain cross-entropy, whatever repeats."""
    draw = torch.Generator().manual_seed(0)
    query_BE, positive_BE = torch.randn(6, 8, generator=draw), torch.randn(6, 8, generator=draw)
    positive_BE[3] = positive_BE[1]
    ids = torch.tensor([0, 1, 2, 1, 4, 5])
    options = NCEOptions(mask=False)
    loss, report = nce_loss(query_BE, positive_BE, temperature=0.1, query_ids=ids, positive_ids=ids, options=options)
    unit = torch.nn.functional.normalize
    logits_BB = unit(query_BE, dim=-1) @ unit(positive_BE, dim=-1).T / 0.1
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits_BB, torch.arange(6)))
    masked, _ = nce_loss(query_BE, positive_BE, temperature=0.1, query_ids=ids, positive_ids=ids)
    assert masked < loss and report["masked"] == 0


@pytest.mark.parametrize("option", ["share_negatives", "classification"])
def test_no_mask_with_what_needs_it(option):
    with pytest.raises(ConfigError, match="mask=false"):
        NCEOptions(mask=False, **{option: True})
